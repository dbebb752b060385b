# AdamW at a constant rate, no weight decay of norms and biases, and an average of all weights, which is
# evaluated. A config states `train_cfg.max_epochs`, and adds to `custom_hooks` what ends early.
_base_ = ['./adamw.py', './average.py', '../default_runtime.py']

param_scheduler = []
optim_wrapper = _base_.no_decay
auto_scale_lr = dict(base_batch_size=16)

_sides = [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]
multi_scale = dict(
    type='mmdetr_plugin.BatchAugmentHook',
    augment=dict(type='mmdetr_plugin.BatchRandomResize', sizes=_sides))
