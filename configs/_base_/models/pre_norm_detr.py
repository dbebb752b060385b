# DETR with the norms before the steps of a layer, and one after the encoder (UP-DETR).
_base_ = './detr.py'

pre_norm = dict(residual=dict(type='PreNorm'))
model = dict(encoder=dict(norm=True, layer=pre_norm), decoder=dict(layer=pre_norm))
