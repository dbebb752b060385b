# As coco_deim_132e.py, but 58 epochs: what happens at an epoch there happens at another one here.
_base_ = './coco_deim_132e.py'

_epochs = {'64': 29, '120': 50, '56': 21}
train_cfg = dict(max_epochs=58)
param_scheduler = [{k: _epochs.get(str(v), v) for k, v in x.items()} for x in _base_.param_scheduler]
_hooks = [{k: _epochs.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
custom_hooks = [
    {**x, 'augment': _base_.sized['l']} if 'sizes' in x.get('augment', ()) else x
    for x in _hooks
]
