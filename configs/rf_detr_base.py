# RF-DETR-base, the first one that was published: DINOv2's own patches of 14 pixels, 560 x 560. Its last
# block is not read.
_base_ = './rf_detr_small.py'

train_pipeline, test_pipeline = (
    [dict(step, scale=(side, side)) if 'scale' in step else step for step in pipeline]
    for pipeline, side in ((_base_.train_pipeline, 840), (_base_.test_pipeline, 560)))
model = dict(
    data_preprocessor=dict(
        pad_size_divisor=56,
        batch_augments=[dict(_base_.resize, random_size_range=(280, 840), size_divisor=56)]),
    backbone=dict(
        patch_size=14,
        windows=4,
        global_blocks=(2, 5, 8, 11),
        out_indices=(1, 4, 7, 10),
        grid_size=37))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=dict(layers=12)))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
