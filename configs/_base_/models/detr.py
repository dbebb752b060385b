# DETR: softmax classes with a column for 'no object', one class for each query.
_base_ = './transformer.py'

model = dict(
    neck=dict(init_cfg=None),  # torch's own initial values
    queries=dict(type='LearnedQueries', num_queries=100),
    decoder=dict(layer=dict(cross_attn=dict(type='CrossAttention'))),
    head=dict(extra_column=True, class_prior=None, wh_bias=None),
    criterion=dict(
        assigner=dict(
            match_costs=[
                dict(type='ClassificationCost', weight=1.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        losses=dict(
            loss_cls=dict(type='SoftmaxClassLoss', background_weight=0.1, loss_weight=1.0),
            loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
            loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0))),
    postprocess=dict(type='SoftmaxArgmax'))
