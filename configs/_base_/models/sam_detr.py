# SAM-DETR: each query compares its content with the map at salient points of its box.
_base_ = './focal.py'

model = dict(
    layout='sam',
    position=dict(offset=-0.5, shifted_extent=True),
    queries=dict(type='LearnedBoxes', num_queries=300),
    decoder=dict(
        norm=False,
        query_position=dict(type='SineQueryPosition'),
        layer=dict(
            self_attn=dict(type='DecoupledSelfAttention'),
            cross_attn=dict(type='SemanticAlignedAttention'))),
    head=dict(shared=False, refine='iterative'))
