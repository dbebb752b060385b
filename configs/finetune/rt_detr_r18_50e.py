# RT-DETR on data of one's own, 50 epochs from published weights (docs/finetune.md).
_base_ = ['../_base_/models/rt_detr_size_r18.py', '../_base_/finetune_real_time_50e.py']

model = dict(num_classes=None)  # as many as the annotations have
