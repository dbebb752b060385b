# A small DINO for the embedded digits: minutes from scratch on 2 CPU cores (`make demo`).
_base_ = [
    './_base_/models/dino.py',
    './_base_/datasets/digits_detection.py',
    './_base_/schedules/digits.py',
    './_base_/default_runtime.py',
]

op = dict(num_heads=4)
ffn = dict(hidden_dims=256)
model = dict(
    num_classes=10,
    num_levels=3,
    embed_dims=128,
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None),
    encoder=dict(num_layers=2, layer=dict(self_attn=op, ffn=ffn)),
    queries=dict(num_queries=30),
    branches=[dict(_base_.model.branches[0], num_denoising=40)],
    decoder=dict(
        num_layers=3,
        layer=dict(
            self_attn=dict(type='SelfAttention', num_heads=4), cross_attn=op, ffn=ffn)))
