# DETR-DC5+, the baseline of Deformable DETR (arXiv:2010.04159): focal loss and 300 queries, 36.2 AP
# after 50 epochs.
_base_ = ['./_base_/models/focal.py', './_base_/backbones/dc5.py', './_base_/coco_50e.py']

model = dict(
    num_classes=80,
    backbone=_base_.dc5,
    neck=dict(init_cfg=None),
    queries=dict(type='LearnedQueries', num_queries=300),
    decoder=dict(layer=dict(cross_attn=dict(type='CrossAttention'))),
    head=dict(wh_bias=None))
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=64)
