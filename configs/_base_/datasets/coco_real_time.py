# COCO at 640 x 640 with the augmentation of the real-time generation. Images without objects are kept.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', './real_time_augmentation.py']

train_pipeline = _base_.strong_pipeline
test_pipeline = _base_.square_pipeline
train_dataloader = dict(
    batch_size=4,
    batch_sampler=None,
    dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
