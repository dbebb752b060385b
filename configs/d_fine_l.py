# D-FINE-L (arXiv:2410.13842): 54.0 AP after 80 epochs.
_base_ = ['./_base_/models/d_fine_size_l.py', './_base_/coco_d_fine_80e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.05)), bias_decay_mult=1.0)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4, weight_decay=1.25e-4), paramwise_cfg=_rates)
