# RF-DETR-medium (arXiv:2511.09554): 54.7 AP at 576 x 576.
_base_ = './rf_detr_small.py'

model = dict(
    backbone=dict(grid_size=36),
    decoder=dict(num_layers=4))
train_dataloader, val_dataloader = (
    dict(dataset=dict(pipeline=[dict(x, scale=(side, side)) if 'scale' in x else x for x in steps]))
    for steps, side in ((_base_.train_pipeline, 736), (_base_.test_pipeline, 576)))
test_dataloader = val_dataloader
_sizes = dict(_base_.multi_scale['augment'], sizes=list(range(416, 737, 32)))
custom_hooks = [*_base_.custom_hooks[:-1], dict(_base_.multi_scale, augment=_sizes)]
