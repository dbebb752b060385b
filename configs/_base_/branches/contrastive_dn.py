# RT-DETR's contrastive denoising: `model = dict(branches=[_base_.contrastive_dn])`.
contrastive_dn = dict(
    type='DenoisingQueries',
    num_denoising=100,
    label_noise=0.25,
    box_noise=1.0,
    contrastive=True,
    padding_row=True,
    train_padding=True,
    normalizer='detection',
    eps=1e-5)
