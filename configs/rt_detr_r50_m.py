# RT-DETR on ResNet-50-vd with a narrower encoder: 51.3 AP after 72 epochs. Six decoder layers are
# trained; detections come from the third.
_base_ = './rt_detr_r50.py'

model = dict(
    encoder=dict(fusion=_base_.narrow_fusion),
    decoder=dict(eval_layer=2))
