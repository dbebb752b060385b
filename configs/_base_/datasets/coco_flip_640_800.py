# COCO with a flip and shorter sides of 640 to 800 pixels. Images without objects are left out.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

_scales = [(s, 1333) for s in (640, 672, 704, 736, 768, 800)]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile', backend_args=None),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomChoiceResize', resize_type='Resize', scales=_scales, keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]))
