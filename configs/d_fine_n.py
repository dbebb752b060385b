# D-FINE-N (arXiv:2410.13842): 42.8 AP after 160 epochs.
_base_ = ['./_base_/models/d_fine_size_n.py', './_base_/coco_d_fine_160e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys=dict(backbone=dict(lr_mult=0.5)))
optim_wrapper = dict(optimizer=dict(lr=8e-4), paramwise_cfg=_rates)
auto_scale_lr = dict(base_batch_size=128)
