# COCO in squares. Images without objects are kept.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', './square_augmentation.py']

train_pipeline = _base_.square_train
test_pipeline = _base_.square_test
train_dataloader = dict(
    batch_size=4, dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
