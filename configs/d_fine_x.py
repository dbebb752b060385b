# D-FINE-X (arXiv:2410.13842): 55.8 AP after 80 epochs.
_base_ = ['./_base_/models/d_fine_size_x.py', './_base_/coco_d_fine_80e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.01)), bias_decay_mult=1.0)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4, weight_decay=1.25e-4), paramwise_cfg=_rates)
# The average forgets faster in the second stage.
# Values of hooks by their text, and what takes their place.
_new = {str(_base_.sized['l']): _base_.sized['x']}
_hooks = [*_base_.custom_hooks[:-1], dict(_base_.custom_hooks[-1], momentum=2e-4)]
custom_hooks = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _hooks]
