# DETR with the last stage dilated instead of strided: 43.3 AP. Trained with one image per GPU, so
# padding is out of its distribution: it is tested with one image per batch too.
_base_ = ['./detr_r50.py', './_base_/backbones/dc5.py']

model = dict(backbone=_base_.dc5)
train_dataloader = val_dataloader = test_dataloader = dict(batch_size=1)
