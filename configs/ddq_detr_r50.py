# DDQ-DETR (arXiv:2303.12776), 4 levels: 51.4 AP after 12 epochs. As mmdet 3.3 computes it, for its
# checkpoints: queries with overlapping boxes are left out, and dense ones are trained besides.
_base_ = './dino_r50_mmdet.py'

model = dict(
    queries=dict(content='token', iou_threshold=0.8),
    branches=[dict(type='DenseQueries', ratio=1.5, repeats=4), *_base_.model.branches],
    head=dict(type='DistinctHead', encoder=2),
    criterion=dict(
        branches=dict(
            dense_=dict(
                assigner=dict(
                    type='HungarianAssigner',
                    match_costs=[
                        dict(type='FocalLossCost', weight=2.0, of_probabilities=True),
                        dict(type='BBoxL1Cost', weight=5.0),
                        dict(type='IoUCost', iou_mode='giou', weight=2.0),
                    ]),
                losses=dict(
                    loss_cls=dict(type='QualityClassLoss'),
                    loss_iou=dict(type='QualityGIoULoss', loss_weight=2.0))))))
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=False, begin=0, end=2000),
    dict(type='MultiStepLR', milestones=[11], gamma=0.1, by_epoch=True),
]
