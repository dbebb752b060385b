# SAM-DETR, last stage of the backbone dilated: 43.3 AP. Trained with one image per GPU, on 8 of them.
_base_ = './sam_detr_r50.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
