# DAB-DETR, last stage of the backbone dilated: 44.5 AP. One image per GPU, on 16 of them.
_base_ = './dab_detr_r50.py'

model = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)))
train_dataloader = dict(batch_size=1)
val_dataloader = dict(batch_size=1)
test_dataloader = dict(batch_size=1)
