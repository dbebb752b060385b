# RF-DETR-base, the first one that was published: DINOv2's own patches of 14 pixels, 560 x 560. Its last
# block is not read.
_base_ = './rf_detr_small.py'

model = dict(
    data_preprocessor=dict(pad_size_divisor=56),
    backbone=dict(
        patch_size=14,
        windows=4,
        global_blocks=(2, 5, 8, 11),
        out_indices=(1, 4, 7, 10),
        grid_size=37))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=dict(layers=12)))
train_dataloader, val_dataloader = (
    dict(dataset=dict(pipeline=[dict(x, scale=(side, side)) if 'scale' in x else x for x in steps]))
    for steps, side in ((_base_.train_pipeline, 840), (_base_.test_pipeline, 560)))
test_dataloader = val_dataloader
_sizes = dict(_base_.multi_scale['augment'], sizes=list(range(280, 841, 56)))
custom_hooks = [*_base_.custom_hooks[:-1], dict(_base_.multi_scale, augment=_sizes)]
