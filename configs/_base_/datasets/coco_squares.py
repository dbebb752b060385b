# COCO in squares (LW-DETR): for training of 448 to 896 pixels, drawn for each image; for tests of 640.
_base_ = './coco_square.py'

_sides = [(side, side) for side in range(448, 897, 64)]
train_pipeline = [
    *_base_.train_pipeline[:4],
    dict(type='RandomChoiceResize', resize_type='Resize', scales=_sides, keep_ratio=False),
    *_base_.train_pipeline[5:],
]
test_pipeline = [
    dict(step, scale=(640, 640)) if 'scale' in step else step for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
