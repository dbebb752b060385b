# DEIM with D-FINE-L (arXiv:2412.04234): 54.7 AP after 58 epochs.
_base_ = ['./_base_/models/d_fine_size_l.py', './_base_/models/deim.py', './_base_/coco_deim_58e.py']

model = dict(num_classes=80, **_base_.deim)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.05)), bias_decay_mult=1.0)
optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=1.25e-4), paramwise_cfg=_rates)
