# Group DETR on DINO: each group selects its queries by proposals of its own.
_base_ = './dino_r50.py'

model = dict(
    branches=[dict(type='GroupQueries', groups=11, separate=True), *_base_.model.branches],
    head=dict(encoder=11))
