# SMCA (arXiv:2101.07448): Gaussians around predicted points weigh cross-attention, 41.0 AP.
_base_ = './conditional_detr_r50.py'

model = dict(
    queries=dict(reference=None),
    decoder=dict(
        query_position=None,
        layer=dict(
            self_attn=dict(type='SelfAttention'),
            cross_attn=dict(type='CrossAttention', prior=dict(type='GaussianPrior')))),
    head=dict(extra_column=True, eps=None, wh_bias=None),
    postprocess=dict(max_per_img=300))
