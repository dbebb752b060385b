# A small DINO for the embedded digits: minutes from scratch on 2 CPU cores (`make demo`).
_base_ = ['./_base_/models/dino.py', './_base_/models/digits_size.py', './_base_/digits_4e.py']

model = dict(
    _base_.digits_size,
    branches=[dict(_base_.model.branches[0], num_denoising=40)],
    # From scratch, naming the digits takes longer than finding them.
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=2.0))))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
