# TSP: what a convolutional detector finds becomes queries, which attend to each other alone.
_base_ = '../backbones/resnet50_caffe.py'

model = dict(
    type='mmdetr_plugin.DETR',
    embed_dims=512,
    dropout=0.1,
    neck=dict(type='NormedFPN', out_channels=256),
    position=dict(type='SinePosition'),
    decoder=dict(
        type='Decoder',
        num_layers=6,
        layer=dict(cross_attn=None, residual=dict(type='PreNorm'))),
    criterion=dict(type='SetCriterion', assigner=dict(type='CandidateAssigner')),
    postprocess=dict(type='ClasswiseNMS', max_per_img=100))
