# DEIMv2-S: DEIM with DINOv3's features. The encoder sums the maps that D-FINE's concatenates; the
# decoder has gated feed-forward parts, norms without a mean, and one position per query for all layers.
_base_ = ['./d_fine.py', './deim.py', '../backbones/plain_vit.py']

_silu = dict(activation='SiLU')
model = dict(
    layout='deimv2',
    embed_dims=192,
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], pad_size_divisor=32),
    backbone=_base_.vit_tiny,
    encoder=dict(
        join='sum',
        fusion=dict(expansion=0.34, num_blocks=2, joined=True, smooth=False),
        layer=dict(ffn=dict(hidden_dims=512))),
    queries=dict(projected=False),
    decoder=dict(
        num_layers=4,
        query_position=dict(_silu, hidden_dims=192, depth=3, shared=True),
        layer=dict(
            ffn=dict(_delete_=True, type='GatedFeedForward', hidden_dims=256),
            residual=dict(type='PostNorm', norm='RMS'),
            residuals=dict(cross_attn=dict(norm='RMS')))),
    head=_silu,
    criterion=dict(losses=_base_.deim.criterion.losses))
