# RF-DETR-nano (arXiv:2511.09554): 48.4 AP at 384 x 384.
_base_ = './rf_detr_small.py'

train_pipeline, test_pipeline = (
    [dict(step, scale=(side, side)) if 'scale' in step else step for step in pipeline]
    for pipeline, side in ((_base_.train_pipeline, 544), (_base_.test_pipeline, 384)))
model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(_base_.resize, random_size_range=(224, 544))]),
    backbone=dict(grid_size=24),
    decoder=dict(num_layers=2))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
