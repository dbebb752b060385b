# DAB-DETR, every box with three learned contents (the patterns of Anchor DETR): 42.6 AP.
_base_ = './dab_detr_r50.py'

model = dict(queries=dict(num_patterns=3))
