# ResNet-50 as in the official repositories: frozen norms, stem and first stage. The neck projects its
# last map, or the maps that a config names in `backbone.out_indices`, to `embed_dims` channels.
_base_ = './imagenet_pixels.py'

model = dict(
    backbone=dict(
        type='DilatedResNet',
        depth=50,
        num_stages=4,
        out_indices=(3, ),
        frozen_stages=1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
        init_cfg=dict(
            type='Pretrained', checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth')),
    neck=dict(type='ChannelMapper', kernel_size=1, act_cfg=None, bias=True))
