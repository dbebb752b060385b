# Sigmoid classes: focal loss and cost, the best 100 (query, class) pairs.
_base_ = ['./transformer.py', './focal_costs.py']

model = dict(
    criterion=dict(
        assigner=dict(match_costs=_base_.focal_costs),
        losses=dict(
            loss_cls=dict(type='FocalClassLoss', loss_weight=2.0),
            loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
            loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0))),
    postprocess=dict(type='SigmoidTopK', max_per_img=100))
