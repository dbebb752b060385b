# COCO with DETR's augmentation. Images without objects are kept.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', './detr_augmentation.py']

train_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    *_base_.augmentation,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline))
