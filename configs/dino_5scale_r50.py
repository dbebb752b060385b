# DINO with a fifth, finer level: 49.4 AP after 12 epochs. One image per GPU, on 16 of them.
_base_ = './dino_r50.py'

model = dict(num_levels=5, backbone=dict(out_indices=(0, 1, 2, 3)))
train_dataloader = dict(batch_size=1)
