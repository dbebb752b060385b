# RT-DETR: ResNet-vd and the hybrid encoder. A config states `num_classes`.
_base_ = ['./real_time.py', '../backbones/resnet_vd.py']

model = dict(layout='rt_detr', backbone=_base_.resnet50_vd)
