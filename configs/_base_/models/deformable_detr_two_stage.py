# Two-stage Deformable DETR: queries selected from the encoder's proposals.
_base_ = './deformable_detr.py'

model = dict(
    queries=dict(_delete_=True, type='EncoderProposals', num_queries=300),
    head=dict(shared=False, refine='iterative', encoder=True, wh_bias=0.0),
    criterion=dict(encoder=True))
