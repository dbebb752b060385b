# The size of the models of the embedded digits, trained from scratch: `model = _base_.digits_size`.
_attention = dict(num_heads=4)
_ffn = dict(hidden_dims=256)
digits_size = dict(
    num_classes=10,
    num_levels=3,
    embed_dims=128,
    dropout=0.0,
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None),
    encoder=dict(num_layers=2, layer=dict(self_attn=_attention, ffn=_ffn)),
    queries=dict(num_queries=30),
    decoder=dict(
        num_layers=3,
        layer=dict(
            self_attn=dict(type='SelfAttention', num_heads=4), cross_attn=_attention, ffn=_ffn)))
