# D-FINE without a size: the layers refine distributions of the sides of boxes. The names of sizes are
# those of the authors' files; a config states `num_classes`.
_base_ = ['./real_time.py', '../backbones/hgnetv2.py']

model = dict(
    layout='d_fine',
    encoder=dict(
        fusion=dict(type='RepNCSPELAN4'),
        lateral=dict(type='ConvModule', kernel_size=1, norm_cfg=dict(type='BN'), act_cfg=None),
        downsample=dict(type='SeparableDownsample'),
        projected=False),
    branches=[dict(_base_.model.branches[0], crossed='turned')],
    decoder=dict(
        query_position=dict(limit=10.0),
        layer=dict(
            cross_attn=dict(num_points=[3, 6, 3], projected=False),
            residuals=dict(cross_attn=dict(type='GatedFusion')))),
    head=dict(type='DistributionHead', refine='none'),
    criterion=dict(
        losses=dict(
            loss_fgl=dict(type='FineGrainedLocalizationLoss', loss_weight=0.15),
            loss_ddf=dict(type='DecoupledDistillationLoss', loss_weight=1.5)),
        union=['loss_bbox', 'loss_iou', 'loss_fgl', 'loss_ddf']))
