# H-DETR (arXiv:2207.13080): one-to-many queries besides those of two-stage Deformable DETR, and three
# tricks: no dropout, mixed query selection, look forward twice. 48.7 AP after 12 epochs.
_base_ = ['./_base_/models/deformable_detr_two_stage.py', './_base_/coco_deformable_12e.py']

ffn = dict(hidden_dims=2048)
model = dict(
    num_classes=80,
    dropout=0.0,
    encoder=dict(layer=dict(ffn=ffn)),
    queries=dict(content='learned'),
    branches=[dict(type='HybridQueries', num_many=1500, repeats=6)],
    decoder=dict(layer=dict(ffn=ffn)),
    head=dict(refine='look_forward_twice'))
auto_scale_lr = dict(base_batch_size=16)
