# Faster R-CNN-FPN+, the baseline of DETR (arXiv:2005.12872, table 1): GIoU losses, DETR's random crop,
# 9x schedule: 42.0 AP. Unpublished: the weights of the losses, here mmdet's; and the drops, here as
# long schedules of Detectron2 have them, 60,000 and 20,000 iterations of 16 images before the end.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/default_runtime.py',
]

model = dict(
    rpn_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=1.0)),
    roi_head=dict(
        bbox_head=dict(reg_decoded_bbox=True, loss_bbox=dict(type='GIoULoss', loss_weight=10.0))))

train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=True)))
train_cfg = dict(max_epochs=109)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type='MultiStepLR', milestones=[101, 106], gamma=0.1, by_epoch=True),
]
