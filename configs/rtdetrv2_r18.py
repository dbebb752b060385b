# RT-DETRv2 on ResNet-18-vd, "S": 48.1 AP after 120 epochs, with `--amp`. One rate for all, weight decay
# of all but norms, one size of pictures.
_base_ = './rtdetrv2_r34.py'

model = dict(backbone=_base_.resnet18_vd, decoder=dict(num_layers=3))
optim_wrapper = dict(
    paramwise_cfg=dict(bias_decay_mult=1.0, custom_keys=dict(backbone=dict(lr_mult=1.0))))
custom_hooks = [*_base_.custom_hooks[:-2], _base_.custom_hooks[-1]]
