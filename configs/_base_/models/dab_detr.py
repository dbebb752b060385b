# DAB-DETR: learned boxes, refined by every layer, are the positions of the queries.
_base_ = './conditional_attention.py'

ffn = dict(type='FeedForward', activation='PReLU')
model = dict(
    dropout=0.0,
    position=dict(temperature=20),
    encoder=dict(position_scale=True, layer=dict(ffn=ffn)),
    queries=dict(type='LearnedBoxes', num_queries=300),
    decoder=dict(query_position=dict(type='BoxPosition'), layer=dict(ffn=ffn)),
    head=dict(refine='look_forward_twice', eps=1e-3),
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=1.0), loss_iou=dict(eps=1e-6))),
    postprocess=dict(max_per_img=300))
