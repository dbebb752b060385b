# DINO: the best tokens of the encoder become queries; noised objects are further queries in training.
_base_ = './deformable_attention.py'

ffn = dict(hidden_dims=2048)
model = dict(
    layout='dino',
    dropout=0.0,
    position=dict(temperature=20),
    encoder=dict(layer=dict(ffn=ffn)),
    queries=dict(
        type='EncoderProposals',
        num_queries=900,
        score='best_class',
        content='learned',
        position_from_box=False,
        selected_only=True),
    branches=[
        dict(
            type='DenoisingQueries',
            num_denoising=100,
            label_noise=0.25,
            box_noise=1.0,
            contrastive=True,
            train_padding=True,
            normalizer='detection'),
    ],
    decoder=dict(
        norm=True,
        query_position=dict(type='DeformableBoxPosition', projection='identity'),
        layer=dict(ffn=ffn)),
    head=dict(refine='look_forward_twice', encoder=True, encoder_classes=True, eps=1e-3),
    criterion=dict(losses=dict(loss_cls=dict(loss_weight=1.0), loss_iou=dict(eps=1e-6))),
    postprocess=dict(max_per_img=300))
