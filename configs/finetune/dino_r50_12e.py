# DINO on data of one's own, 12 epochs from published weights (docs/finetune.md).
_base_ = ['../_base_/models/dino.py', '../_base_/finetune_12e.py']

model = dict(num_classes=None)  # as many as the annotations have
