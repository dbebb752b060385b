# RF-DETR-medium (arXiv:2511.09554): 54.7 AP at 576 x 576.
_base_ = './rf_detr_small.py'

train_pipeline, test_pipeline = (
    [dict(step, scale=(side, side)) if 'scale' in step else step for step in pipeline]
    for pipeline, side in ((_base_.train_pipeline, 736), (_base_.test_pipeline, 576)))
model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(_base_.resize, random_size_range=(416, 736))]),
    backbone=dict(grid_size=36),
    decoder=dict(num_layers=4))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
