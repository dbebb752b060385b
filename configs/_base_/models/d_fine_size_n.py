_base_ = './d_fine.py'

_ffn = dict(hidden_dims=512)
model = dict(
    num_levels=2,
    embed_dims=128,
    backbone=dict(_base_.hgnetv2_b0, out_indices=(2, 3)),
    encoder=dict(layer=dict(ffn=_ffn), fusion=dict(expansion=0.34, num_blocks=2)),
    decoder=dict(num_layers=3, layer=dict(cross_attn=dict(num_points=[6, 6]), ffn=_ffn)))
