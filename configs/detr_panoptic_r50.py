# Panoptic DETR (arXiv:2005.12872, section 4.4): 43.4 PQ. Here the mask head is trained together with
# the detector; the published models were trained in two steps: detr_panoptic_boxes_*, *_masks_*.
_base_ = [
    './_base_/models/detr.py',
    './_base_/datasets/coco_panoptic.py',
    './_base_/schedules/detr_300e.py',
    './_base_/default_runtime.py',
]

model = dict(
    num_classes=133,
    backbone=dict(out_indices=(0, 1, 2, 3)),  # for the mask head; the neck reads the last
    neck=dict(in_channels=[2048]),
    mask_head=dict(type='AttentionMaskHead', chunk=25),
    criterion=dict(
        losses=dict(
            loss_mask=dict(type='MaskFocalLoss', loss_weight=1.0),
            loss_dice=dict(type='MaskDiceLoss', loss_weight=1.0))),
    postprocess=dict(type='PanopticArgmax', num_things=80),
    test_cfg=dict(score_thr=0.85, min_area=4))
visualizer = dict(type='mmdetr_plugin.PanopticVisualizer')
default_hooks = dict(checkpoint=dict(save_best='coco_panoptic/PQ', rule='greater'))
