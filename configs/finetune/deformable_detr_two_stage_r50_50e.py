# Two-stage Deformable DETR on data of one's own, 50 epochs from published weights (docs/finetune.md).
_base_ = ['../_base_/models/deformable_detr_two_stage.py', '../_base_/finetune_50e.py']

model = dict(num_classes=None)  # as many as the annotations have
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(sampling_offsets=dict(lr_mult=0.1))))
