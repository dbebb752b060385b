# D-FINE-M (arXiv:2410.13842): 52.3 AP after 132 epochs.
_base_ = ['./_base_/models/d_fine_size_m.py', './_base_/coco_d_fine_132e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.1)))
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=_rates)
# Values of hooks by their text, and what takes their place.
_new = {str(_base_.sized['s']): _base_.sized['m']}
custom_hooks = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
