# RF-DETR-small on data of one's own, 12 epochs from published weights (docs/finetune.md).
_base_ = ['../_base_/models/rf_detr.py', '../_base_/finetune_square_12e.py']

model = dict(num_classes=None)  # as many as the annotations have
