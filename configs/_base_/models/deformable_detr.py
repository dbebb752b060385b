# Deformable DETR on four levels of ResNet-50. A config states `num_classes`.
_base_ = './r50_c3_c6_focal.py'

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    type='mmdetr_plugin.DETR',
    layout='deformable',
    embed_dims=256,
    dropout=0.1,
    position=dict(type='SinePosition', offset=-0.5, level_embed=4),
    encoder=dict(
        type='Encoder',
        num_layers=6,
        layer=dict(self_attn=dict(type='DeformableAttention', num_levels=4), ffn=ffn)),
    queries=dict(
        type='LearnedQueries',
        num_queries=300,
        learned_content=True,
        reference=dict(type='LinearReference')),
    decoder=dict(
        type='Decoder',
        num_layers=6,
        norm=False,
        layer=dict(cross_attn=dict(type='DeformableAttention', num_levels=4), ffn=ffn)),
    head=dict(type='SetHead', wh_bias=-2.0))
