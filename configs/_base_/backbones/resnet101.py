# ResNet-101 in the place of ResNet-50: `model = dict(backbone=_base_.resnet101)`.
resnet101 = dict(
    depth=101,
    init_cfg=dict(checkpoint='https://download.pytorch.org/models/resnet101-63fe2227.pth'))
