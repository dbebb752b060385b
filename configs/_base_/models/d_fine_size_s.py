_base_ = './d_fine.py'

model = dict(
    backbone=_base_.hgnetv2_b0,
    encoder=dict(fusion=dict(expansion=0.5, num_blocks=1)),
    decoder=dict(num_layers=3))
