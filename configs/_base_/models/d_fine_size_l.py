_base_ = './d_fine.py'

model = dict(backbone=_base_.hgnetv2_b4)
