# RT-DETR on ResNet-18-vd: narrower blocks in the encoder, three decoder layers.
_base_ = './rt_detr.py'

model = dict(
    backbone=_base_.resnet18_vd,
    encoder=dict(fusion=_base_.narrow_fusion),
    decoder=dict(num_layers=3))
