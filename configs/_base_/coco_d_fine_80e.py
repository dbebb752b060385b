# As coco_d_fine_132e.py, but 80 epochs, the last 8 as when detecting.
_base_ = './coco_d_fine_132e.py'

_epochs = {'120': 72}
train_cfg = dict(max_epochs=80)
_hooks = [{k: _epochs.get(str(v), v) for k, v in x.items()} for x in _base_.custom_hooks]
custom_hooks = [
    {**x, 'augment': _base_.sized['l']} if 'sizes' in x.get('augment', ()) else x
    for x in _hooks
]
