# TSP-FCOS: the features of interest of five maps, strides 8 to 128.
_base_ = './tsp.py'

model = dict(
    num_levels=5,
    backbone=dict(out_indices=(1, 2, 3)),
    position=dict(level_embed=True),
    queries=dict(type='FeaturesOfInterest', num_queries=700),
    head=dict(type='DistanceHead'),
    criterion=dict(
        assigner=dict(
            costs=[
                dict(type='CentralClassCost', weight=1.0),
                dict(type='DistanceGIoUCost', weight=2.0),
            ]),
        losses=dict(
            loss_cls=dict(type='CandidateFocalLoss'),
            loss_iou=dict(type='DistanceGIoULoss'),
            loss_central=dict(type='CentralityLoss'))),
    postprocess=dict(iou_threshold=0.6, root=True))
