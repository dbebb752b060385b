# Panoptic DETR-DC5, step 1 of 2: boxes of things and stuff.
_base_ = ['./detr_panoptic_boxes_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
