# A small DINO for the embedded digits: minutes from scratch on 2 CPU cores (`make demo`).
_base_ = [
    './_base_/models/dino.py',
    './_base_/models/digits_size.py',
    './_base_/datasets/digits_detection.py',
    './_base_/schedules/digits_3e.py',
    './_base_/default_runtime.py',
]

model = dict(
    _base_.digits_size,
    branches=[dict(_base_.model.branches[0], num_denoising=20)],
    # From scratch, naming the digits takes longer than finding them.
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=2.0))))

# Every picture is seen three times, as it is: so short a training has no need of augmentation.
# These pictures load so fast that on two cores a further process would only slow the step.
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        pipeline=[_base_.load, _base_.load_boxes, _base_.resize, dict(type='PackDetInputs')]))
