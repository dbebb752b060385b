# A mix: queries are the encoder's best proposals, as in two-stage Deformable DETR; attention is
# Conditional DETR's, around boxes that every layer refines. Not published, not trained on COCO.
_base_ = './conditional_detr_r50.py'

model = dict(
    # A token of the only level, of stride 32, proposes a box as large as there in Deformable DETR.
    queries=dict(_delete_=True, type='EncoderProposals', num_queries=300, base_size=0.2),
    head=dict(shared=False, refine='iterative', encoder=True),
    criterion=dict(encoder=True))
