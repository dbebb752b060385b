# Sigmoid classes: focal loss and cost, the best 100 (query, class) pairs.
_base_ = './transformer.py'

model = dict(
    criterion=dict(
        assigner=dict(
            match_costs=[
                dict(type='FocalLossCost', weight=2.0, eps=1e-8),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        losses=dict(
            loss_cls=dict(type='FocalClassLoss', loss_weight=2.0),
            loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
            loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0))),
    postprocess=dict(type='SigmoidTopK', max_per_img=100))
