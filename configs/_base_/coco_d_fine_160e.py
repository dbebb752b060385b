# As coco_d_fine_132e.py, but 160 epochs, and pictures of one size.
_base_ = './coco_d_fine_132e.py'

_epochs = {'120': 148}
_hooks = [x for x in _base_.custom_hooks if x.get('augment') != _base_.multi_scale.augment]
train_cfg = dict(max_epochs=160)
custom_hooks = [{k: _epochs.get(str(v), v) for k, v in x.items()} for x in _hooks]
