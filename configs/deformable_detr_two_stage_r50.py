# Two-stage Deformable DETR: queries selected from the encoder's proposals, 46.9 AP.
_base_ = './deformable_detr_refine_r50.py'

model = dict(
    queries=dict(_delete_=True, type='EncoderProposals', num_queries=300),
    head=dict(encoder=True, wh_bias=0.0),
    criterion=dict(encoder=True))
