# RT-DETR on ResNet-101-vd, the encoder 384 wide: 54.3 AP after 72 epochs.
_base_ = './rt_detr_r50.py'

model = dict(
    encoder_dims=384,
    backbone=_base_.resnet101_vd,
    encoder=dict(layer=dict(ffn=dict(hidden_dims=2048))))
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.01))))
