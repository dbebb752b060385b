# ResNet-vd as in RT-DETR, for `model = dict(backbone=_base_.resnet50_vd)`: norms and stem are frozen in
# the deeper two; in the others everything is trained.
_storage = 'https://github.com/lyuwenyu/storage/releases/download/v0.1/'
_weights = dict(
    resnet18='ResNet18_vd_pretrained_from_paddle.pth',
    resnet34='ResNet34_vd_pretrained_from_paddle.pth',
    resnet50='ResNet50_vd_ssld_v2_pretrained_from_paddle.pth',
    resnet101='ResNet101_vd_ssld_pretrained_from_paddle.pth')
_vd = dict(type='ResNetVD', num_stages=4, out_indices=(1, 2, 3))
_trained = dict(
    _vd, frozen_stages=-1, norm_cfg=dict(type='BN', requires_grad=True), norm_eval=False)
_frozen = dict(
    _vd, frozen_stages=0, norm_cfg=dict(type='BN', requires_grad=False), norm_eval=True)
resnet18_vd, resnet34_vd, resnet50_vd, resnet101_vd = (
    dict(
        _trained if depth < 50 else _frozen,
        depth=depth,
        init_cfg=dict(type='Pretrained', checkpoint=_storage + _weights[f'resnet{depth}']))
    for depth in (18, 34, 50, 101))
