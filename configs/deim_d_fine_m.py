# DEIM with D-FINE-M (arXiv:2412.04234): 52.7 AP after 102 epochs.
_base_ = ['./_base_/models/d_fine_size_m.py', './_base_/models/deim.py', './_base_/coco_deim_102e.py']

model = dict(num_classes=80, **_base_.deim)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
optim_wrapper = dict(optimizer=dict(lr=4e-4), paramwise_cfg=_rates)
