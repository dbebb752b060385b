# SAM-DETR with SMCA, last stage of the backbone dilated: 45.0 AP.
_base_ = './sam_detr_dc5_r50.py'

model = dict(decoder=dict(layer=dict(cross_attn=dict(gaussian=True))))
