# The digits set with every pixel in a segment: digits are things, kinds of background are stuff.
_base_ = './digits_detection.py'

dataset_type = 'CocoPanopticDataset'
data_root = 'data/digits/'
_things = ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
_stuff = ('sky', 'water', 'building', 'tree', 'petal', 'leaf')
metainfo = dict(classes=_things + _stuff, thing_classes=_things, stuff_classes=_stuff)

_segments = dict(type='mmdetr_plugin.LoadPanopticSegments', num_things=10)
# Without shifts: mmdet's RandomAffine moves boxes but not masks.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    _segments,
    dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(
        type='PhotoMetricDistortion',
        brightness_delta=24,
        contrast_range=(0.8, 1.2),
        saturation_range=(0.8, 1.2),
        hue_delta=12,
    ),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(160, 160), keep_ratio=True),
    dict(_segments, with_mask=False),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(seg='panoptic/train/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        metainfo=metainfo,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(seg='panoptic/val/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='mmdetr_plugin.ThingMetric',
        ann_file=data_root + 'annotations/val.json',
        metric=['bbox', 'segm'],
    ),
    dict(
        type='mmdetr_plugin.PanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val.json',
        seg_prefix=data_root + 'panoptic/val/',
    ),
]
test_evaluator = val_evaluator
