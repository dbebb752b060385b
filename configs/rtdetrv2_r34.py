# RT-DETRv2 on ResNet-34-vd, "M*": 49.9 AP after 120 epochs, with `--amp`.
_base_ = './rtdetrv2_r50.py'

model = dict(
    backbone=_base_.resnet34_vd,
    encoder=dict(fusion=_base_.narrow_fusion),
    decoder=dict(num_layers=4))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
train_cfg = dict(max_epochs=120)
_plain = 117
custom_hooks = [
    *_base_.custom_hooks[:-2],
    dict(_base_.multi_scale, end=_plain),
    dict(_base_.switch_to_plain, switch_epoch=_plain),
]
