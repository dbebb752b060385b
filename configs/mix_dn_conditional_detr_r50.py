# A mix: noised objects are further queries of Conditional DETR in training, as in DN-DETR. Its queries
# have a position of their own; that of a noised object is made from its box. Not published, not trained
# on COCO.
_base_ = ['./conditional_detr_r50.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, unknown=True, position_from_box=True)])
