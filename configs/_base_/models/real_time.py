# The real-time generation, without a backbone: attention on the coarsest level alone, convolutions
# between levels, the best tokens as queries; pictures of one size, divided by 255.
_base_ = ['./focal_costs.py', '../branches/contrastive_dn.py']

_ffn = dict(type='FeedForward', hidden_dims=1024)
model = dict(
    type='mmdetr_plugin.DETR',
    num_levels=3,
    embed_dims=256,
    dropout=0.0,
    data_preprocessor=dict(
        type='DetDataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True),
    neck=dict(type='ChannelMapper', kernel_size=1, norm_cfg=dict(type='BN'), act_cfg=None),
    position=dict(type='CellPosition'),
    encoder=dict(
        type='HybridEncoder',
        num_layers=1,
        layer=dict(self_attn=dict(type='SelfAttention'), ffn=dict(_ffn, activation='GELU'))),
    queries=dict(
        type='EncoderProposals',
        num_queries=300,
        score='best_class',
        content='selected',
        position_from_box=False,
        selected_only=True),
    branches=[_base_.contrastive_dn],
    decoder=dict(
        type='Decoder',
        num_layers=6,
        norm=False,
        query_position=dict(type='MLPPosition'),
        layer=dict(cross_attn=dict(type='DeformableAttention'), ffn=_ffn)),
    head=dict(
        type='SetHead', shared=False, refine='look_forward_twice', encoder=True,
        encoder_classes=True),
    criterion=dict(
        type='SetCriterion',
        assigner=dict(type='HungarianAssigner', match_costs=_base_.focal_costs),
        losses=dict(
            loss_cls=dict(type='VarifocalClassLoss', loss_weight=1.0),
            loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
            loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0))),
    postprocess=dict(type='SigmoidTopK', max_per_img=300))
