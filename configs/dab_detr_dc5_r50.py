# DAB-DETR, last stage of the backbone dilated: 44.5 AP. One image per GPU, on 16 of them.
_base_ = ['./dab_detr_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
