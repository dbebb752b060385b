# A small DINO for the embedded digits: minutes from scratch on 2 CPU cores (`make demo`).
_base_ = ['./_base_/models/dino.py', './_base_/models/digits_size.py', './_base_/digits_4e.py']

model = dict(
    _base_.digits_size,
    branches=[dict(_base_.model.branches[0], num_denoising=20)],
    # From scratch, naming the digits takes longer than finding them.
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=2.0))))

# Every picture is seen three times, as it is: so short a training has no need of augmentation.
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], T_max=max_epochs),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load, _base_.load_boxes, _base_.resize, dict(type='PackDetInputs')]))
