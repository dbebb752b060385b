# DEIMv2-S (arXiv:2509.20787): 50.9 AP after 132 epochs. Its ViT starts from weights distilled from
# DINOv3, which docs/migrate.md says where to find.
_base_ = ['./_base_/models/deimv2.py', './_base_/coco_deimv2_132e.py']

model = dict(num_classes=80)
_rates = dict(custom_keys={'backbone': dict(lr_mult=1.0), 'backbone.vit': dict(lr_mult=0.05)})
optim_wrapper = dict(optimizer=dict(lr=5e-4), paramwise_cfg=_rates)
