# Deformable attention over four levels: the last three maps of ResNet-50, and a convolution of the last
# one with stride 2.
_base_ = './focal.py'

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    layout='deformable',
    num_levels=4,
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(norm_cfg=dict(type='GN', num_groups=32)),
    position=dict(level_embed=True),
    encoder=dict(layer=dict(self_attn=dict(type='DeformableAttention'), ffn=ffn)),
    decoder=dict(norm=False, layer=dict(cross_attn=dict(type='DeformableAttention'), ffn=ffn)))
