# TSP-RCNN (arXiv:2011.10881).
_base_ = [
    './_base_/models/tsp_rcnn.py',
    './_base_/datasets/coco_flip_640_800.py',
    './_base_/schedules/tsp_36e.py',
    './_base_/default_runtime.py',
]

model = dict(num_classes=80)
optim_wrapper = dict(
    optimizer=dict(lr=0.02), paramwise_cfg=dict(custom_keys=dict(decoder=dict(lr_mult=0.005))))
