# RF-DETR, with the defaults of the package `rfdetr`: a constant rate, 16 images a step.
_base_ = ['./adamw.py', './vit_rates.py']

train_cfg = dict(max_epochs=100)
optim_wrapper = dict(_base_.vit_rates, accumulative_counts=4)
param_scheduler = []
auto_scale_lr = dict(base_batch_size=16)
