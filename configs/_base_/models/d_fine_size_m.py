_base_ = './d_fine.py'

model = dict(
    backbone=_base_.hgnetv2_b2,
    encoder=dict(fusion=dict(num_blocks=2)),
    decoder=dict(num_layers=4))
