# What DEIM changes in D-FINE, for a config that also has one of its sizes.
model = dict(
    backbone=dict(frozen_stages=-1, frozen_norms=False),
    decoder=dict(
        query_position=dict(activation='SiLU'), layer=dict(ffn=dict(activation='SiLU'))),
    head=dict(activation='SiLU'),
    criterion=dict(losses=dict(loss_cls=dict(type='MatchabilityAwareClassLoss'))))
