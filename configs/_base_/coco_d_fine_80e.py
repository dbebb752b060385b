# As coco_d_fine_132e.py, but 80 epochs, the last 8 as when detecting.
_base_ = './coco_d_fine_132e.py'

# Values of hooks by their text, and what takes their place.
_new = {'120': 72}
_new[str(_base_.sized['s'])] = _base_.sized['l']
train_cfg = dict(max_epochs=80)
custom_hooks = [{k: _new.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
