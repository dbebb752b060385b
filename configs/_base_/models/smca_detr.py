# SMCA: Gaussians around predicted points weigh cross-attention.
_base_ = './focal.py'

model = dict(
    neck=dict(init_cfg=None),  # torch's own initial values, as in DETR
    queries=dict(type='LearnedQueries', num_queries=300),
    decoder=dict(
        layer=dict(cross_attn=dict(type='CrossAttention', prior=dict(type='GaussianPrior')))),
    head=dict(extra_column=True, eps=None, wh_bias=None),
    postprocess=dict(max_per_img=300))
