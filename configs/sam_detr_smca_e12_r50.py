# SAM-DETR with SMCA, 12 epochs: 36.0 AP.
_base_ = './sam_detr_e12_r50.py'

model = dict(decoder=dict(layer=dict(cross_attn=dict(gaussian=True))))
