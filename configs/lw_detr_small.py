# LW-DETR-small (arXiv:2406.03459): 48.0 AP after 60 epochs that start from weights of Objects365.
_base_ = ['./_base_/models/lw_detr.py', './_base_/coco_squares_60e.py']

model = dict(num_classes=80)
