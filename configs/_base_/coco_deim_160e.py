# As coco_deim_132e.py, but 160 epochs at a constant rate, and pictures of one size.
_base_ = './coco_deim_132e.py'

_epochs = {'64': 78, '120': 148}
train_cfg = dict(max_epochs=160)
param_scheduler = [_base_.warmup]
_hooks = [x for x in _base_.custom_hooks if x.get('augment') != _base_.multi_scale.augment]
custom_hooks = [{k: _epochs.get(str(v), v) for k, v in x.items()} for x in _hooks]
