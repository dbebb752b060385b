# DEIM with D-FINE-X (arXiv:2412.04234): 56.5 AP after 58 epochs.
_base_ = ['./_base_/models/d_fine_size_x.py', './_base_/models/deim.py', './_base_/coco_deim_58e.py']

model = dict(num_classes=80, **_base_.deim)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.01)), bias_decay_mult=1.0)
optim_wrapper = dict(optimizer=dict(lr=5e-4, weight_decay=1.25e-4), paramwise_cfg=_rates)
# Values of hooks by their text, and what takes their place.
_new = {str(_base_.sized['l']): _base_.sized['x']}
custom_hooks = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
