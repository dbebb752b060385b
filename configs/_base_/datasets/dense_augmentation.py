# Dense one-to-one augmentation (DEIM, section 3.2): half of the pictures are mosaics of
# four, and half of the batches mixtures of two.
_base_ = './coco_real_time.py'

_load, _load_boxes, _colours, _larger, _crop, *_square = _base_.strong_pipeline
_mosaic = [
    dict(type='mmdetr_plugin.QuadMosaic', side=320),
    dict(
        type='RandomAffine', max_rotate_degree=10.0, max_translate_ratio=0.1,
        scaling_ratio_range=(0.5, 1.5), max_shear_degree=0.0, border_val=(0, 0, 0)),
    _colours,
]
_choice = dict(type='RandomChoice', transforms=[_mosaic, [_colours, _larger, _crop]])
dense_pipeline = [_load, _load_boxes, _choice, *_square]
train_dataloader = dict(dataset=dict(pipeline=_base_.plain_pipeline))
mixup = dict(
    type='mmdetr_plugin.BatchAugmentHook', augment=dict(type='mmdetr_plugin.BatchMixup', prob=0.5))
