# Square images without padding, in the sizes of RF-DETR-small: tests see 512 x 512; training images are
# 672 x 672, and then batches are resized: `custom_hooks = [*_base_.custom_hooks, _base_.multi_scale]`.
_square_crop = [
    dict(
        type='RandomChoiceResize', resize_type='Resize', keep_ratio=True,
        scales=[(side, 4200) for side in (400, 500, 600)]),
    dict(
        type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600),
        allow_negative_crop=True),
]

square_train = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[[], _square_crop]),
    dict(type='Resize', scale=(672, 672), keep_ratio=False),
    dict(type='PackDetInputs'),
]
square_test = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=(512, 512), keep_ratio=False),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
multi_scale = dict(
    type='mmdetr_plugin.BatchAugmentHook',
    augment=dict(
        type='mmdetr_plugin.BatchRandomResize', mode='bilinear',
        sizes=list(range(352, 673, 32))))
