# DEIM: as D-FINE, with a longer warm-up; a config may let the rate fall to one half.
_base_ = './d_fine.py'

warmup = dict(type='mmdet.QuadraticWarmupLR', by_epoch=False, begin=0, end=2000)
param_scheduler = [warmup]
