# Conditional DETR on data of one's own, 12 epochs from published weights (docs/finetune.md).
_base_ = [
    '../_base_/models/conditional_detr.py',
    '../_base_/datasets/custom_detection.py',
    '../_base_/schedules/finetune_12e.py',
    '../_base_/default_runtime.py',
]

model = dict(num_classes=None)  # as many as the annotations have
