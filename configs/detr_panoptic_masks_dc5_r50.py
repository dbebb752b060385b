# Panoptic DETR-DC5, step 2 of 2: 25 epochs of the mask head alone, 44.6 PQ.
_base_ = ['./detr_panoptic_masks_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
load_from = 'work_dirs/detr_panoptic_boxes_dc5_r50/epoch_300.pth'
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
