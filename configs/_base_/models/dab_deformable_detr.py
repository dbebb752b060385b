# DAB-Deformable DETR: learned boxes, refined by every layer, read by deformable attention.
_base_ = './deformable_attention.py'

ffn = dict(hidden_dims=2048)
model = dict(
    dropout=0.0,
    position=dict(offset=-0.5),
    encoder=dict(layer=dict(ffn=ffn)),
    queries=dict(type='LearnedBoxes', num_queries=300, learned_content=True),
    decoder=dict(query_position=dict(type='DeformableBoxPosition'), layer=dict(ffn=ffn)),
    head=dict(shared=False, refine='iterative', wh_bias=-2.0, eps=1e-3),
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=1.0), loss_iou=dict(eps=1e-6))))
