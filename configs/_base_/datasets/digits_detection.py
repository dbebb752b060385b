# The digits set (`tools/make_digits.py`): handwriting on photographs, made without a download.
data_root = 'data/digits/'
metainfo = dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))

load = dict(type='LoadImageFromFile')
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
resize = dict(type='Resize', scale=(160, 160), keep_ratio=True)
colours = dict(
    type='PhotoMetricDistortion', brightness_delta=24, contrast_range=(0.8, 1.2),
    saturation_range=(0.8, 1.2), hue_delta=12)
pack_for_test = dict(
    type='PackDetInputs',
    meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))
# No flip and no turning: a mirrored 2 is no digit, and a turned box would no longer be tight.
_shift = dict(
    type='RandomAffine', max_rotate_degree=0.0, max_translate_ratio=0.1,
    scaling_ratio_range=(0.8, 1.1), max_shear_degree=0.0, border_val=(114, 114, 114))

train_pipeline = [
    load, load_boxes, resize, _shift,
    # A digit that the shift left a sliver of cannot be read any more.
    dict(type='FilterAnnotations', min_gt_bbox_wh=(6, 12)),
    colours, dict(type='PackDetInputs'),
]
test_pipeline = [load, resize, load_boxes, pack_for_test]

_loader = dict(batch_size=8, num_workers=2, persistent_workers=True)
_dataset = dict(type='CocoDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    **_loader, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **_dataset, ann_file='annotations/train.json', data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True), pipeline=train_pipeline))
val_dataloader = dict(
    **_loader, drop_last=False, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **_dataset, ann_file='annotations/val.json', data_prefix=dict(img='val/'), test_mode=True,
        pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(
    type='CocoMetric', ann_file=data_root + 'annotations/val.json', metric='bbox',
    format_only=False)
test_evaluator = val_evaluator
