# Data of one's own in squares (docs/finetune.md).
_base_ = ['./custom_detection.py', './square_augmentation.py']

train_dataloader = dict(dataset=dict(pipeline=_base_.square_train))
val_dataloader = dict(dataset=dict(pipeline=_base_.square_test))
test_dataloader = val_dataloader
