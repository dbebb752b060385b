# DAB-DETR DC5 whose anchors lie at random places that are not trained (appendix of the paper).
_base_ = './dab_detr_dc5_r50.py'

model = dict(queries=dict(fixed_xy=True))
# The centres are part of a trained parameter: no gradient reaches them, and no decay must either.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'queries.boxes': dict(decay_mult=0.0)}))
