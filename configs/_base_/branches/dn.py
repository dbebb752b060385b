# Queries that DN-DETR adds for training: `model = dict(branches=[_base_.dn])`.
dn = dict(
    type='DenoisingQueries', groups=5, label_noise=0.2, box_noise=0.4, indicator=True)
