# Square images without padding, in both the sizes of RF-DETR-small: training resizes whole batches from
# 672 x 672 (`model.data_preprocessor.batch_augments`), tests see 512 x 512.
_square_crop = [
    dict(
        type='RandomChoiceResize', resize_type='Resize', keep_ratio=True,
        scales=[(side, 4200) for side in (400, 500, 600)]),
    dict(
        type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600),
        allow_negative_crop=True),
]

square_train = [
    dict(type='mmdetr_plugin.LoadImage', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[], _square_crop]),
    dict(type='Resize', scale=(672, 672), keep_ratio=False),
    dict(type='PackDetInputs'),
]
square_test = [
    dict(type='mmdetr_plugin.LoadImage', backend_args=None),
    dict(type='Resize', scale=(512, 512), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
