# COCO panoptic with DETR's augmentation. Every segment, thing or stuff, is an object with a box and a
# mask. Boxes and instance masks of things are evaluated besides, on COCO's instances.
_base_ = ['mmdet::_base_/datasets/coco_panoptic.py', './detr_augmentation.py']

data_root = 'data/coco/'
_segments = dict(type='mmdetr_plugin.LoadPanopticSegments', num_things=80, backend_args=None)
train_pipeline = [
    dict(type='mmdetr_plugin.LoadImage', backend_args=None),
    _segments,
    *_base_.augmentation,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(_segments, with_mask=False),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='mmdetr_plugin.ThingMetric',
        ann_file=data_root + 'annotations/instances_val2017.json',
        metric=['bbox', 'segm']),
    dict(
        type='mmdetr_plugin.PanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val2017.json',
        seg_prefix=data_root + 'annotations/panoptic_val2017/'),
]
test_evaluator = val_evaluator
