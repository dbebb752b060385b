# DINO as mmdet 3.3 computes it, for its checkpoints: separate heads for all layers, no biases before
# the norms of the neck, another eps in predictions, a row for each class in the label embedding.
_base_ = './dino_r50.py'

model = dict(
    neck=dict(bias='auto'),
    branches=[dict(_base_.model.branches[0], extra_row=False, normalizer='objects')],
    head=dict(shared=False, prediction_eps=1e-5),
    criterion=dict(
        assigner=dict(
            match_costs=[
                dict(type='FocalLossCost', weight=2.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        losses=dict(loss_iou=dict(eps=0.0))))
