# RT-DETR (arXiv:2304.08069) on ResNet-50-vd: 53.1 AP after 72 epochs.
_base_ = ['./_base_/models/rt_detr.py', './_base_/coco_rt_detr_72e.py']

model = dict(num_classes=80)
