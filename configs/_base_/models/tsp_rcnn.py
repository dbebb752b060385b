# TSP-RCNN: the regions that an RPN proposes on maps of strides 8 to 128; the finest has stride 4.
_base_ = './tsp.py'

model = dict(
    num_levels=6,
    queries=dict(type='RegionProposals', num_queries=700),
    head=dict(type='RegionHead'),
    criterion=dict(
        assigner=dict(
            costs=[
                dict(type='CandidateClassCost', weight=1.0),
                dict(type='CandidateGIoUCost', weight=2.0),
            ]),
        losses=dict(
            loss_cls=dict(type='RegionClassLoss'),
            loss_bbox=dict(type='RegionDeltaLoss'),
            loss_iou=dict(type='RegionGIoULoss', loss_weight=2.0))),
    postprocess=dict(iou_threshold=0.7, softmax=True))
