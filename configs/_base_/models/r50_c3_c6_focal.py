# Four levels: the last three maps of ResNet-50 and a stride-2 convolution of the last one.
_base_ = './r50_c5_focal.py'

model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=dict(
        in_channels=[512, 1024, 2048], num_outs=4, norm_cfg=dict(type='GN', num_groups=32),
        init_cfg=dict(_delete_=True, type='Xavier', layer='Conv2d', distribution='uniform')))
