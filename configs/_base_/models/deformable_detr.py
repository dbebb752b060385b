# Deformable DETR: learned queries, each with a reference point.
_base_ = './deformable_attention.py'

model = dict(
    position=dict(offset=-0.5),
    queries=dict(
        type='LearnedQueries',
        num_queries=300,
        learned_content=True,
        reference=dict(type='LinearReference')),
    head=dict(wh_bias=-2.0))
