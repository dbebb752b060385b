# Panoptic DETR with the last stage dilated: 44.6 PQ. One image at a time, as detr_dc5_r50.
_base_ = ['./detr_panoptic_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
