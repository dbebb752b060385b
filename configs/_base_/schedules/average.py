# Parts of the real-time schedules. An average of all weights, which is evaluated: its decay grows to
# 0.9999. And no weight decay of norms and biases, `optim_wrapper = _base_.no_decay`.
average = dict(
    type='EMAHook', ema_type='mmdet.ExpMomentumEMA', momentum=1e-4, gamma=2000,
    update_buffers=True)
no_decay = dict(
    constructor='mmdetr_plugin.NoDecayConstructor',
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0))
