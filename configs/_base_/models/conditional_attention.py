# Attention of Conditional DETR and DAB-DETR: content and position are projected apart.
_base_ = './focal.py'

model = dict(
    neck=dict(init_cfg=None),  # torch's own initial values, as in DETR
    decoder=dict(
        layer=dict(
            self_attn=dict(type='DecoupledSelfAttention'),
            cross_attn=dict(type='ConditionalCrossAttention'))))
