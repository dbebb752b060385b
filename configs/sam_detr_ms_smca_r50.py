# Multi-scale SAM-DETR with SMCA: 47.1 AP.
_base_ = './sam_detr_ms_r50.py'

model = dict(decoder=dict(layer=dict(cross_attn=dict(gaussian=True))))
