# LW-DETR: a constant rate, which falls from block to block of the ViT (`lr_encoder`,
# `lr_component_decay` and `lr_vit_layer_decay` of the official code).
_base_ = './adamw.py'

train_cfg = dict(max_epochs=60)
optim_wrapper = dict(
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(
        layer_decay=dict(rate=0.8, undecayed=('gamma', )),
        custom_keys=dict(backbone=dict(lr_mult=1.5 * 0.7**2), decoder=dict(lr_mult=0.7))))
param_scheduler = []
auto_scale_lr = dict(base_batch_size=32)
sync_bn = 'torch'
