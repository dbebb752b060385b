# LW-DETR-medium (arXiv:2406.03459): 52.5 AP after 60 epochs that start from weights of Objects365.
_base_ = './lw_detr_small.py'

model = dict(backbone=dict(embed_dims=384))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay=dict(rate=0.7)))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
