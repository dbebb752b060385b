# DN-DETR on DAB-Deformable DETR: 49.5 AP after 50 epochs.
_base_ = ['./dab_deformable_detr_r50.py', './_base_/branches/dn.py']

# The last channel of every content says whether a query is noised.
model = dict(queries=dict(embed_dims=255), branches=[_base_.dn])
