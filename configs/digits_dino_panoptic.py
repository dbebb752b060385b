# A small panoptic DINO for the embedded digits: the demo's detector with the mask head of DETR.
_base_ = [
    './_base_/models/dino.py',
    './_base_/models/digits_size.py',
    './_base_/datasets/digits_panoptic.py',
    './_base_/schedules/digits_3e.py',
    './_base_/default_runtime.py',
]

model = dict(
    _base_.digits_size,
    num_classes=16,
    # The mask head reads the first map, the neck the others.
    backbone=dict(_base_.digits_size.backbone, out_indices=(0, 1, 2, 3)),
    neck=dict(in_channels=[64, 128, 256]),
    branches=[dict(_base_.model.branches[0], num_denoising=20)],
    mask_head=dict(type='AttentionMaskHead', num_heads=4, level=0, near_boxes=True),
    criterion=dict(
        losses=dict(
            loss_cls=dict(loss_weight=2.0),
            loss_mask=dict(type='MaskFocalLoss', loss_weight=1.0),
            loss_dice=dict(type='MaskDiceLoss', loss_weight=1.0))),
    postprocess=dict(type='PanopticTopK', num_things=10, max_per_img=100))

visualizer = dict(type='mmdetr_plugin.PanopticVisualizer')
default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ', rule='greater'))
