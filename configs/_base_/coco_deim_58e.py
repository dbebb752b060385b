# As coco_deim_132e.py, but 58 epochs: what happens at an epoch there happens at another one here.
_base_ = './coco_deim_132e.py'

# Values of hooks by their text, and what takes their place.
_new = {'64': 29, '120': 50, '56': 21}
_new[str(_base_.sized['s'])] = _base_.sized['l']
train_cfg = dict(max_epochs=58)
param_scheduler = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _base_.param_scheduler]
custom_hooks = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
