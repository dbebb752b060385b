# DETR with the last stage dilated instead of strided: 43.3 AP. Trained with one image per GPU, so
# padding is out of its distribution: it is tested with one image per batch too.
_base_ = './detr_r50.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
