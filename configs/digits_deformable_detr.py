# A small two-stage Deformable DETR for the embedded digits: minutes from scratch on 2 CPU cores
# (`make demo`).
_base_ = [
    './_base_/models/r50_c3_c6_focal.py',
    './_base_/datasets/digits_detection.py',
    './_base_/schedules/digits.py',
    './_base_/default_runtime.py',
]

op = dict(type='DeformableAttention', num_heads=4, num_levels=3)
ffn = dict(type='FeedForward', hidden_dims=256)
model = dict(
    type='mmdetr_plugin.DETR',
    layout='deformable',
    num_classes=10,
    embed_dims=128,
    dropout=0.0,
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[64, 128, 256], num_outs=3),
    position=dict(type='SinePosition', offset=-0.5, level_embed=3),
    encoder=dict(type='Encoder', num_layers=2, layer=dict(self_attn=op, ffn=ffn)),
    queries=dict(type='EncoderProposals', num_queries=30),
    decoder=dict(
        type='Decoder',
        num_layers=3,
        norm=False,
        layer=dict(
            self_attn=dict(type='SelfAttention', num_heads=4), cross_attn=op, ffn=ffn)),
    head=dict(type='SetHead', shared=False, refine='iterative', encoder=True),
    criterion=dict(encoder=True))
