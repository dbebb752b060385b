# SAM-DETR with SMCA: attention weighed by a Gaussian around each salient point, 41.8 AP.
_base_ = './sam_detr_r50.py'

model = dict(decoder=dict(layer=dict(cross_attn=dict(gaussian=True))))
