# Anchor DETR (arXiv:2109.07107): row-column attention, 42.1 AP after 50 epochs. Trained with one
# image per GPU; what the padding holds counts, so it is tested with one image per batch too.
_base_ = [
    './_base_/models/r50_c5_focal.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/adamw_50e.py',
    './_base_/default_runtime.py',
]

ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    type='mmdetr_plugin.DETR',
    layout='anchor',
    num_classes=80,
    embed_dims=256,
    dropout=0.0,
    neck=dict(
        norm_cfg=dict(type='GN', num_groups=32),
        init_cfg=dict(_delete_=True, type='Xavier', layer='Conv2d', distribution='uniform')),
    position=dict(type='AnchorPosition'),
    encoder=dict(
        type='Encoder',
        num_layers=6,
        layer=dict(self_attn=dict(type='RowColumnSelfAttention'), ffn=ffn)),
    queries=dict(type='AnchorQueries', num_queries=300, num_patterns=3),
    decoder=dict(
        type='Decoder',
        num_layers=6,
        norm=False,
        layer=dict(cross_attn=dict(type='RowColumnCrossAttention'), ffn=ffn)),
    head=dict(type='SetHead', wh_bias=-2.0, eps=None))

train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
