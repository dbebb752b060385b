# A mix: noised objects are further queries of SAM-DETR in training, as in DN-DETR. Not published, not
# trained on COCO.
_base_ = ['./sam_detr_r50.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, unknown=True)])
