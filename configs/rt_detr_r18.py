# RT-DETR on ResNet-18-vd, three decoder layers: 46.4 AP after 72 epochs.
_base_ = ['./_base_/models/rt_detr_size_r18.py', './_base_/coco_rt_detr_72e.py']

model = dict(num_classes=80)
