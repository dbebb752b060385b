# A mix: queries are the encoder's best proposals, as in two-stage Deformable DETR; attention is
# Conditional DETR's, around boxes that every layer refines. Not published, not trained on COCO.
_base_ = ['./_base_/models/conditional_attention.py', './_base_/coco_50e.py']

model = dict(
    num_classes=80,
    # A token of the only level, of stride 32, proposes a box as large as there in Deformable DETR.
    queries=dict(type='EncoderProposals', num_queries=300, base_size=0.2),
    decoder=dict(query_position=dict(type='ConditionalPosition')),
    head=dict(shared=False, refine='iterative', encoder=True))
