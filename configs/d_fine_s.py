# D-FINE-S (arXiv:2410.13842): 48.5 AP after 132 epochs.
_base_ = ['./_base_/models/d_fine_size_s.py', './_base_/coco_d_fine_132e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.5)))
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=_rates)
