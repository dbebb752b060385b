# RT-DETR on ResNet-18-vd, three decoder layers: 46.4 AP after 72 epochs.
_base_ = './rt_detr_r50.py'

model = dict(
    backbone=_base_.resnet18_vd,
    encoder=dict(fusion=_base_.narrow_fusion),
    decoder=dict(num_layers=3))
