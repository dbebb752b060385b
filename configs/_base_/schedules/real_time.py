# AdamW at a constant rate, no weight decay of norms and biases, and an average of all weights, which is
# evaluated. A config states `train_cfg.max_epochs`, and adds to `custom_hooks` what ends early.
_base_ = ['./adamw.py', '../default_runtime.py']

param_scheduler = []
optim_wrapper = dict(
    constructor='mmdetr_plugin.NoDecayConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0))
auto_scale_lr = dict(base_batch_size=16)

average = dict(
    type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=1e-4, gamma=2000,
    update_buffers=True)
_sides = [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]
multi_scale = dict(
    type='mmdetr_plugin.BatchAugmentHook',
    augment=dict(type='mmdetr_plugin.BatchRandomResize', sizes=_sides))
