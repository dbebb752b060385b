# UP-DETR (arXiv:2011.09094), fine-tuned from a pre-training without labels, which `load_from` names:
# 43.1 AP after 300 epochs.
_base_ = [
    './_base_/models/pre_norm_detr.py',
    './_base_/datasets/coco_detection.py',
    './_base_/schedules/detr_300e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.5))))
auto_scale_lr = dict(base_batch_size=16)
