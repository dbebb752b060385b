# DN-DETR (arXiv:2203.01305) on DAB-DETR: 44.4 AP after 50 epochs.
_base_ = ['./dab_detr_r50.py', './_base_/branches/dn.py']

model = dict(branches=[dict(_base_.dn, unknown=True)])
