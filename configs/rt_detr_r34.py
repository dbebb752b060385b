# RT-DETR on ResNet-34-vd, four decoder layers: 48.9 AP after 72 epochs.
_base_ = './rt_detr_r18.py'

model = dict(backbone=_base_.resnet34_vd, decoder=dict(num_layers=4))
