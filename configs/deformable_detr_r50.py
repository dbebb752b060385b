# Deformable DETR (arXiv:2010.04159): 44.5 AP after 50 epochs.
_base_ = [
    './_base_/models/r50_c3_c6_focal.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/deformable_50e.py',
    './_base_/default_runtime.py',
]

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    type='mmdetr_plugin.DETR',
    layout='deformable',
    num_classes=80,
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
