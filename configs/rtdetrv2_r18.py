# RT-DETRv2 (arXiv:2407.17140) on ResNet-18-vd, "S": 48.1 AP after 120 epochs.
_base_ = './rt_detr_r18.py'

model = dict(layout='rt_detr_v2')
