# H-DETR on Deformable DETR with box refinement, without a second stage, an option of the authors' code.
_base_ = ['./_base_/models/deformable_detr.py', './_base_/coco_deformable_12e.py']

ffn = dict(hidden_dims=2048)
model = dict(
    num_classes=80,
    dropout=0.0,
    encoder=dict(layer=dict(ffn=ffn)),
    branches=[dict(type='HybridQueries', num_many=1500, repeats=6)],
    decoder=dict(layer=dict(ffn=ffn)),
    head=dict(shared=False, refine='look_forward_twice'))
auto_scale_lr = dict(base_batch_size=16)
