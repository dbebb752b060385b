# RT-DETR: ResNet-vd and the hybrid encoder. A config states `num_classes`;
# smaller models fuse the levels by narrower blocks, `encoder=dict(fusion=_base_.narrow_fusion)`.
_base_ = ['./real_time.py', '../backbones/resnet_vd.py']

narrow_fusion = dict(type='CSPRepBlock', hidden_channels=128)
model = dict(layout='rt_detr', backbone=_base_.resnet50_vd)
