# A folder of images without annotations, of each of which ten random patches are to be found (UP-DETR).
_scales = [(s, 600) for s in (320, 336, 352, 368, 400, 416, 432, 448, 464, 480)]

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='mmdetr_plugin.UnlabelledImages',
        data_root='data/imagenet/train/',
        pipeline=[
            dict(type='mmdetr_plugin.LoadImage', backend_args=None),
            dict(type='mmdetr_plugin.RandomPatches', number=10),
            dict(type='RandomChoiceResize', resize_type='Resize', scales=_scales, keep_ratio=True),
            dict(type='mmdetr_plugin.PackPatches'),
        ]))
