# Anchor DETR with attention over all cells in the place of row-column attention, an option of the
# authors' code (its AP is not published), which keeps the perceptron of the 1-D codes.
_base_ = './anchor_detr_r50.py'

model = dict(
    position=dict(axis_codes=False, unused_axis_codes=True),
    encoder=dict(layer=dict(self_attn=dict(type='SelfAttention'))),
    decoder=dict(layer=dict(cross_attn=dict(type='CrossAttention'))))
