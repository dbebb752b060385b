# Data of one's own in COCO format (docs/finetune.md). A folder with
#   annotations/train.json  annotations/val.json  train/ and val/ with the images
# named by `--cfg-options data_root=FOLDER`. Classes are those of annotations/train.json.
_base_ = './coco_detection.py'

data_root = 'data/custom/'
# None: the folder is completed from `data_root`, the classes from the file, and the evaluator's file
# from the data set.
_own = dict(
    type='mmdetr_plugin.CheckedCocoDataset', data_root=None, metainfo=dict(classes=None))
_train = dict(_own, ann_file='annotations/train.json', data_prefix=dict(img='train/'))
_val = dict(_own, ann_file='annotations/val.json', data_prefix=dict(img='val/'))

train_dataloader = dict(batch_size=4, dataset=dict(filter_cfg=dict(min_size=1), **_train))
val_dataloader = dict(dataset=_val)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmdetr_plugin.CheckedCocoMetric', ann_file=None)
test_evaluator = val_evaluator
