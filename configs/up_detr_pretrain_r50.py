# UP-DETR's pre-training (arXiv:2011.09094): 60 epochs of ImageNet's images without their labels.
_base_ = [
    './_base_/models/pre_norm_detr.py',
    './_base_/schedules/adamw_50e.py',
    './_base_/datasets/unlabelled_patches.py',
    './_base_/default_runtime.py',
]

swav = 'https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar'
model = dict(
    num_classes=2,
    frozen_parts=('backbone', ),
    backbone=dict(init_cfg=dict(checkpoint=swav)),
    queries=dict(type='PatchQueries', num_patches=10),
    criterion=dict(losses=dict(loss_feature=dict(type='FeatureReconstructionLoss'))))
train_cfg = dict(max_epochs=60)
param_scheduler = [dict(type='MultiStepLR', milestones=[40], gamma=0.1, by_epoch=True)]
auto_scale_lr = dict(base_batch_size=256)
# There is nothing to be evaluated.
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = test_evaluator = test_cfg = None
