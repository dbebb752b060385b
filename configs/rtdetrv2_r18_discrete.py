# RT-DETRv2 "S" that reads whole cells instead of interpolating: 47.4 AP, fine-tuned from the weights of
# rtdetrv2_r18 (`load_from`) for 36 epochs, with `--amp`. Every operation exists on old devices.
_base_ = './rtdetrv2_r18.py'

model = dict(decoder=dict(layer=dict(cross_attn=dict(sampling='discrete'))))
train_cfg = dict(max_epochs=36)
custom_hooks = [*_base_.custom_hooks[:-1], dict(_base_.custom_hooks[-1], switch_epoch=33)]
