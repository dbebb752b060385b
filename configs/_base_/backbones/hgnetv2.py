# HGNetV2 as in D-FINE, for `model = dict(backbone=_base_.hgnetv2_b0)`. Up to B2 there are affine blocks
# and everything is trained; in B4 and B5 stem and norms are frozen.
_storage = 'https://github.com/Peterande/storage/releases/download/dfinev1.0/PPHGNetV2_'
hgnetv2_b0, hgnetv2_b2, hgnetv2_b4, hgnetv2_b5 = (
    dict(
        type='HGNetV2',
        arch=arch,
        out_indices=(1, 2, 3),
        affine=arch < 'B3',
        frozen_stages=-1 if arch < 'B3' else 0,
        frozen_norms=arch > 'B3',
        init_cfg=dict(type='Pretrained', checkpoint=f'{_storage}{arch}_stage1.pth'))
    for arch in ('B0', 'B2', 'B4', 'B5'))
