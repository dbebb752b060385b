# DN-DETR, last stage of the backbone dilated: 46.3 AP after 50 epochs.
_base_ = ['./dab_detr_dc5_r50.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, unknown=True)])
