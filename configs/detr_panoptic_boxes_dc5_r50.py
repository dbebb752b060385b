# Panoptic DETR-DC5, step 1 of 2: boxes of things and stuff.
_base_ = './detr_panoptic_boxes_r50.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
