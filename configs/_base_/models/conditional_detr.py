# Conditional DETR: learned queries, each with a reference point.
_base_ = './conditional_attention.py'

model = dict(
    queries=dict(type='LearnedQueries', num_queries=300, reference=dict(type='MLPReference')),
    decoder=dict(query_position=dict(type='ConditionalPosition')))
