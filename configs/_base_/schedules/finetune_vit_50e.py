# As finetune_50e.py, with the rates of the parts that LW-DETR and RF-DETR have.
_base_ = './finetune_50e.py'

optim_wrapper = dict(
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(
        layer_decay=dict(rate=0.8, layers=13, undecayed=('patch_embed', )),
        custom_keys=dict(backbone=dict(lr_mult=1.5 * 0.7**2), decoder=dict(lr_mult=0.7))))
