# Sampling offsets and reference points learn at a tenth of the rate (Deformable DETR, section 5).
_base_ = './adamw_50e.py'

auto_scale_lr = dict(base_batch_size=32)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4),
    paramwise_cfg=dict(
        custom_keys={
            'sampling_offsets': dict(lr_mult=0.1),
            'queries.reference': dict(lr_mult=0.1),
        }))
