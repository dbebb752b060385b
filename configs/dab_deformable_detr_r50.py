# DAB-Deformable DETR (arXiv:2201.12329): 48.7 AP after 50 epochs.
_base_ = './deformable_detr_refine_r50.py'

ffn = dict(type='FeedForward', hidden_dims=2048)
model = dict(
    dropout=0.0,
    encoder=dict(layer=dict(ffn=ffn)),
    queries=dict(_delete_=True, type='LearnedBoxes', num_queries=300, learned_content=True),
    decoder=dict(query_position=dict(type='DeformableBoxPosition'), layer=dict(ffn=ffn)),
    head=dict(eps=1e-3),
    criterion=dict(loss_cls=dict(loss_weight=1.0), loss_iou=dict(eps=1e-6)))
# All of the transformer learns at one rate here.
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(custom_keys=dict(_delete_=True, backbone=dict(lr_mult=0.1))))
auto_scale_lr = dict(base_batch_size=16)
