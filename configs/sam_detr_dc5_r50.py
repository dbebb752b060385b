# SAM-DETR, last stage of the backbone dilated: 43.3 AP. Trained with one image per GPU, on 8 of them.
_base_ = ['./sam_detr_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
