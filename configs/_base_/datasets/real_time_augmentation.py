# Augmentation of the real-time generation: colours, a larger canvas, a crop, flip; then 640 x 640
# without keeping the aspect ratio.
load = dict(type='LoadImageFromFile', backend_args=None)
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
# Pillow's bilinear resize looks at all pixels, as the published training did.
_to_square = [
    dict(type='mmdetr_plugin.RoundPixels'),
    dict(type='Resize', scale=(640, 640), keep_ratio=False, backend='pillow'),
]
_square = [
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type='RandomFlip', prob=0.5),
    *_to_square,
    dict(type='PackDetInputs'),
]
strong_pipeline = [
    load,
    load_boxes,
    dict(type='PhotoMetricDistortion'),
    dict(type='Expand', mean=(0, 0, 0), ratio_range=(1, 4), prob=0.5),
    dict(type='RandomApply', transforms=[dict(type='MinIoURandomCrop')], prob=0.8),
    *_square,
]
plain_pipeline = [load, load_boxes, *_square]
# Without the strong augmentation from an epoch on: `dict(_base_.switch_to_plain, switch_epoch=N)`.
switch_to_plain = dict(type='mmdet.PipelineSwitchHook', switch_pipeline=plain_pipeline)
square_pipeline = [
    load,
    *_to_square,
    load_boxes,
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
