# A small DINO for the embedded digits: minutes from scratch on 2 CPU cores (`make demo`).
_base_ = ['./_base_/models/dino.py', './_base_/models/digits_size.py', './_base_/digits_9e.py']

model = dict(
    _base_.digits_size, branches=[dict(_base_.model.branches[0], num_denoising=40)])
