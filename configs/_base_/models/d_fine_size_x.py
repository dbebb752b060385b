_base_ = './d_fine.py'

model = dict(
    encoder_dims=384,
    backbone=_base_.hgnetv2_b5,
    encoder=dict(layer=dict(ffn=dict(hidden_dims=2048)), projected=True),
    head=dict(scale=8.0))
