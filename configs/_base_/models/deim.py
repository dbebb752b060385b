# What DEIM changes in D-FINE: `model = dict(**_base_.deim)`.
deim = dict(
    backbone=dict(frozen_stages=-1, frozen_norms=False),
    decoder=dict(
        query_position=dict(activation='SiLU'), layer=dict(ffn=dict(activation='SiLU'))),
    head=dict(activation='SiLU'),
    criterion=dict(losses=dict(loss_cls=dict(type='MatchabilityAwareClassLoss'))))
