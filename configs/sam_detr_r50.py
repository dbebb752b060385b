# SAM-DETR (arXiv:2203.06883): 39.8 AP after 50 epochs.
_base_ = [
    './_base_/models/r50_c5_focal.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_50e.py',
    './_base_/default_runtime.py',
]

model = dict(
    type='mmdetr_plugin.DETR',
    layout='sam',
    num_classes=80,
    embed_dims=256,
    dropout=0.1,
    position=dict(type='SinePosition', offset=-0.5, shifted_extent=True),
    encoder=dict(type='Encoder', num_layers=6, layer=dict(self_attn=dict(type='SelfAttention'))),
    queries=dict(type='LearnedBoxes', num_queries=300),
    decoder=dict(
        type='Decoder',
        num_layers=6,
        norm=False,
        query_position=dict(type='SineQueryPosition'),
        layer=dict(
            self_attn=dict(type='DecoupledSelfAttention'),
            cross_attn=dict(type='SemanticAlignedAttention'))),
    head=dict(type='SetHead', shared=False, refine='iterative'))
