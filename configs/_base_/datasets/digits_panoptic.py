# The digits set with every pixel in a segment: digits are things, kinds of background are stuff.
_base_ = './digits_detection.py'

_things = _base_.metainfo.classes
_stuff = ('sky', 'water', 'building', 'tree', 'petal', 'leaf')
metainfo = dict(classes=_things + _stuff, thing_classes=_things, stuff_classes=_stuff)

_segments = dict(type='mmdetr_plugin.LoadPanopticSegments', num_things=10)
# Without shifts: mmdet's RandomAffine moves boxes but not masks.
train_pipeline = [
    _base_.load,
    _segments,
    _base_.resize,
    _base_.colours,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    _base_.load,
    _base_.resize,
    dict(_segments, with_mask=False),
    _base_.pack_for_test,
]

_dataset = dict(type='CocoPanopticDataset', metainfo=metainfo)
train_dataloader = dict(
    dataset=dict(
        **_dataset, ann_file='annotations/panoptic_train.json',
        data_prefix=dict(seg='panoptic/train/'), pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        **_dataset, ann_file='annotations/panoptic_val.json',
        data_prefix=dict(seg='panoptic/val/'), pipeline=test_pipeline))
test_dataloader = val_dataloader

_annotations = _base_.data_root + 'annotations/'
val_evaluator = [
    dict(
        type='mmdetr_plugin.ThingMetric', ann_file=_annotations + 'val.json',
        metric=['bbox', 'segm']),
    dict(
        type='mmdetr_plugin.PanopticMetric', ann_file=_annotations + 'panoptic_val.json',
        seg_prefix=_base_.data_root + 'panoptic/val/'),
]
test_evaluator = val_evaluator
