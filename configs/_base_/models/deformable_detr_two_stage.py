# Two-stage Deformable DETR: queries selected from the encoder's proposals.
_base_ = './deformable_attention.py'

model = dict(
    position=dict(offset=-0.5),
    queries=dict(type='EncoderProposals', num_queries=300),
    head=dict(shared=False, refine='iterative', encoder=True))
