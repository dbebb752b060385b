# D-FINE-S on data of one's own, 50 epochs from published weights (docs/finetune.md).
_base_ = ['../_base_/models/d_fine_size_s.py', '../_base_/finetune_real_time_50e.py']

model = dict(num_classes=None)  # as many as the annotations have
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
