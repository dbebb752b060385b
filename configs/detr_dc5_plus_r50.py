# DETR-DC5+, the baseline of Deformable DETR (arXiv:2010.04159): focal loss and 300 queries, 36.2 AP
# after 50 epochs.
_base_ = './detr_dc5_r50.py'

model = dict(
    queries=dict(num_queries=300),
    head=dict(extra_column=False, class_prior=0.01),
    criterion=dict(
        assigner=dict(
            match_costs=[
                dict(type='FocalLossCost', weight=2.0, eps=1e-8),
                dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
                dict(type='IoUCost', iou_mode='giou', weight=2.0),
            ]),
        loss_cls=dict(_delete_=True, type='FocalClassLoss', loss_weight=2.0)),
    postprocess=dict(_delete_=True, type='SigmoidTopK', max_per_img=100))
train_cfg = dict(max_epochs=50)
param_scheduler = [dict(type='MultiStepLR', milestones=[40], gamma=0.1, by_epoch=True)]
