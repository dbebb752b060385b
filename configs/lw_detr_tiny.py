# LW-DETR-tiny (arXiv:2406.03459): 42.6 AP after 60 epochs that start from weights of Objects365.
_base_ = './lw_detr_small.py'

model = dict(
    backbone=dict(depth=6, global_blocks=(1, 3, 5), out_indices=(1, 3, 5)),
    queries=dict(num_queries=100),
    postprocess=dict(max_per_img=100))
