# A mix: Conditional DETR whose cross-attention falls off around the reference point as a Gaussian,
# as in SMCA. Not published, not trained on COCO.
_base_ = './conditional_detr_r50.py'

model = dict(
    decoder=dict(
        layer=dict(cross_attn=dict(prior=dict(type='GaussianPrior', make_reference=False)))))
