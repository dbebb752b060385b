# Data and schedule of DEIMv2-S: as DEIM, but most batches keep their size, objects are blended into
# pictures that are no mixtures, and from epoch 100 on queries are matched by score and overlap alone.
_base_ = './coco_deim_132e.py'

_sides = [*range(480, 640, 32), *[640] * 20, *range(672, 832, 32)]
_sized = dict(type='mmdetr_plugin.BatchRandomResize', sizes=_sides)
_blend = dict(type='mmdetr_plugin.BatchCopyBlend', prob=0.5)
_by_quality = dict(type='HungarianAssigner', match_costs=[dict(type='QualityCost', alpha=4.0)])
custom_hooks = [
    *({**x, 'augment': _sized} if 'sizes' in x.get('augment', ()) else x for x in _base_.custom_hooks),
    dict(type='mmdetr_plugin.BatchAugmentHook', augment=_blend, begin=4, end=120),
    dict(type='mmdetr_plugin.AssignerSwitchHook', assigner=_by_quality, begin=100),
]
