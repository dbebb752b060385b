# RF-DETR-nano (arXiv:2511.09554): 48.4 AP at 384 x 384.
_base_ = './rf_detr_small.py'

model = dict(
    backbone=dict(grid_size=24),
    decoder=dict(num_layers=2))
train_dataloader, val_dataloader = (
    dict(dataset=dict(pipeline=[dict(x, scale=(side, side)) if 'scale' in x else x for x in steps]))
    for steps, side in ((_base_.train_pipeline, 544), (_base_.test_pipeline, 384)))
test_dataloader = val_dataloader
_sizes = dict(_base_.multi_scale['augment'], sizes=list(range(224, 545, 32)))
custom_hooks = [*_base_.custom_hooks[:-1], dict(_base_.multi_scale, augment=_sizes)]
