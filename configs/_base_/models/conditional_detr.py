# Conditional DETR on the last map of ResNet-50. A config states `num_classes`.
_base_ = './r50_c5_focal.py'

model = dict(
    type='mmdetr_plugin.DETR',
    embed_dims=256,
    dropout=0.1,
    encoder=dict(type='Encoder', num_layers=6, layer=dict(self_attn=dict(type='SelfAttention'))),
    position=dict(type='SinePosition'),
    queries=dict(
        type='LearnedQueries', num_queries=300, reference=dict(type='MLPReference')),
    decoder=dict(
        type='Decoder',
        num_layers=6,
        query_position=dict(type='ConditionalPosition'),
        layer=dict(
            self_attn=dict(type='DecoupledSelfAttention'),
            cross_attn=dict(type='ConditionalCrossAttention'))),
    head=dict(type='SetHead'))
