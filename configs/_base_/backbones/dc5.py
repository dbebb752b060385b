# The last stage dilated instead of strided, its map twice as fine: `model = dict(backbone=_base_.dc5)`.
dc5 = dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
