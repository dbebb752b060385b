# What the whole family starts from: the last map of ResNet-50, sine codes, six layers each of encoder
# and decoder. Bases built on it add queries, cross-attention, losses; a config states `num_classes`.
_base_ = '../backbones/resnet50.py'

model = dict(
    type='mmdetr_plugin.DETR',
    embed_dims=256,
    dropout=0.1,
    position=dict(type='SinePosition'),
    encoder=dict(type='Encoder', num_layers=6, layer=dict(self_attn=dict(type='SelfAttention'))),
    decoder=dict(type='Decoder', num_layers=6),
    head=dict(type='SetHead'),
    criterion=dict(type='SetCriterion', assigner=dict(type='HungarianAssigner')))
