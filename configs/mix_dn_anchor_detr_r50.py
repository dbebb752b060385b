# A mix: noised objects are further queries of Anchor DETR in training, as in DN-DETR; their anchors are
# the noised centres. Not published, not trained on COCO.
_base_ = ['./anchor_detr_r50.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, indicator=False)])
