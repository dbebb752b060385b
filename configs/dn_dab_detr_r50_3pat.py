# DN-DETR, every box with three learned contents.
_base_ = ['./dab_detr_r50_3pat.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, unknown=True)])
