# Matching costs of sigmoid classes: `criterion = dict(assigner=dict(match_costs=_base_.focal_costs))`.
focal_costs = [
    dict(type='FocalLossCost', weight=2.0, eps=1e-8),
    dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
    dict(type='IoUCost', iou_mode='giou', weight=2.0),
]
