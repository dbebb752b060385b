# Data and schedule of DEIMv2-S: as DEIM, but objects are blended into pictures that are no
# mixtures, and from epoch 100 on queries are matched by score and overlap alone.
_base_ = './coco_deim_132e.py'

_blend = dict(type='mmdetr_plugin.BatchCopyBlend', prob=0.5)
_by_quality = dict(type='HungarianAssigner', match_costs=[dict(type='QualityCost', alpha=4.0)])
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdetr_plugin.BatchAugmentHook', augment=_blend, begin=4, end=120),
    dict(type='mmdetr_plugin.AssignerSwitchHook', assigner=_by_quality, begin=100),
]
