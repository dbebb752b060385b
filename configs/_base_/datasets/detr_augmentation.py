# DETR's augmentation (paper, appendix A.4): flip, then either resize, or resize, crop and resize.
_sides = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
_resize = dict(
    type='RandomChoiceResize', resize_type='Resize', scales=[(s, 1333) for s in _sides],
    keep_ratio=True)
_precrop = dict(
    type='RandomChoiceResize', resize_type='Resize', scales=[(s, 4200) for s in (400, 500, 600)],
    keep_ratio=True)
_crop = dict(
    type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True)

augmentation = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[_resize], [_precrop, _crop, _resize]]),
]
