# Anchor DETR (arXiv:2109.07107): row-column attention, 42.1 AP after 50 epochs. Trained with one
# image per GPU; what the padding holds counts, so it is tested with one image per batch too.
_base_ = ['./_base_/models/anchor_detr.py', './_base_/coco_50e.py']

model = dict(num_classes=80)
train_dataloader = dict(batch_size=1)
auto_scale_lr = dict(base_batch_size=8)
