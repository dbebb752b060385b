# Anchor DETR: queries are anchor points with patterns, attention runs along rows and columns.
_base_ = './focal.py'

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    layout='anchor',
    dropout=0.0,
    neck=dict(norm_cfg=dict(type='GN', num_groups=32)),
    position=dict(type='AnchorPosition'),
    encoder=dict(layer=dict(self_attn=dict(type='RowColumnSelfAttention'), ffn=ffn)),
    queries=dict(type='AnchorQueries', num_queries=300, num_patterns=3),
    decoder=dict(norm=False, layer=dict(cross_attn=dict(type='RowColumnCrossAttention'), ffn=ffn)),
    head=dict(wh_bias=-2.0, eps=None))
