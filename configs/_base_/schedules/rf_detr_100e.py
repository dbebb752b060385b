# RF-DETR: as LW-DETR, with the defaults of the package `rfdetr`, which counts one block too many.
_base_ = './lw_detr_60e.py'

train_cfg = dict(max_epochs=100)
optim_wrapper = dict(
    accumulative_counts=4,
    paramwise_cfg=dict(layer_decay=dict(layers=13, undecayed=('patch_embed', ))))
auto_scale_lr = dict(base_batch_size=16)
sync_bn = None
