# Rates of RF-DETR's parts: `optim_wrapper = _base_.vit_rates`. They are the defaults of the package
# `rfdetr` (`lr_encoder`, `lr_component_decay`, `lr_vit_layer_decay`), which counts one block too many.
vit_rates = dict(
    constructor='LayerDecayConstructor',
    paramwise_cfg=dict(
        layer_decay=dict(rate=0.8, layers=13, undecayed=('patch_embed', )),
        custom_keys=dict(backbone=dict(lr_mult=1.5 * 0.7**2), decoder=dict(lr_mult=0.7))))
