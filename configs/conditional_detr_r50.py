# Conditional DETR (arXiv:2108.06152): 41.0 AP after 50 epochs.
_base_ = [
    './_base_/models/r50_c5_focal.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_50e.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='mmdetr_plugin.DETR',
    num_classes=80,
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
