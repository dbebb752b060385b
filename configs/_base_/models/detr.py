# DETR on the last map of ResNet-50. A config states `num_classes`.
_base_ = './r50_c5.py'

model = dict(
    type='mmdetr_plugin.DETR',
    embed_dims=256,
    dropout=0.1,
    position=dict(type='SinePosition'),
    encoder=dict(type='Encoder', num_layers=6, layer=dict(self_attn=dict(type='SelfAttention'))),
    queries=dict(type='LearnedQueries', num_queries=100),
    decoder=dict(type='Decoder', num_layers=6, layer=dict(cross_attn=dict(type='CrossAttention'))),
    head=dict(type='SetHead', extra_column=True, class_prior=None, wh_bias=None),
    criterion=dict(
        type='SetCriterion',
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=1.0),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        loss_cls=dict(type='SoftmaxClassLoss', background_weight=0.1, loss_weight=1.0),
        loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
        loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0)),
    postprocess=dict(type='SoftmaxArgmax'))
