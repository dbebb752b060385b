# LW-DETR: a ViT, a projector and a short decoder. Each of 13 groups of queries is selected by its own
# proposals; boxes are moved in units of their own size, and all layers add to the same reference.
_base_ = ['../backbones/windowed_vit.py', './focal_costs.py']

model = dict(
    type='mmdetr_plugin.DETR',
    layout='lw_detr',
    embed_dims=256,
    dropout=0.0,
    position=dict(type='SinePosition', at='none'),
    queries=dict(
        type='EncoderProposals',
        num_queries=300,
        score='best_class',
        content='learned',
        position_from_box=False,
        selected_only=True,
        relative=True,
        learned_shift=True),
    branches=[dict(type='GroupQueries', groups=13, separate=True)],
    decoder=dict(
        type='Decoder',
        num_layers=3,
        query_position=dict(type='DeformableBoxPosition', projection='identity'),
        layer=dict(cross_attn=dict(type='DeformableAttention', num_heads=16, num_points=2))),
    head=dict(type='SetHead', encoder=13, encoder_classes=True),
    criterion=dict(
        type='SetCriterion',
        assigner=dict(type='HungarianAssigner', match_costs=_base_.focal_costs),
        losses=dict(
            loss_cls=dict(type='IoUAwareClassLoss'),
            loss_bbox=dict(type='BoxL1Loss', loss_weight=5.0),
            loss_iou=dict(type='BoxGIoULoss', loss_weight=2.0))),
    postprocess=dict(type='SigmoidTopK', max_per_img=300))
