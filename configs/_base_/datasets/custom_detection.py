# Data of one's own in COCO format (docs/finetune.md). A folder with
#   annotations/train.json  annotations/val.json  train/ and val/ with the images
# named by `--cfg-options data_root=FOLDER`. Classes are those of annotations/train.json.
_base_ = './coco_detection.py'

data_root = 'data/custom/'
_train = dict(ann_file='annotations/train.json', data_prefix=dict(img='train/'))
_val = dict(ann_file='annotations/val.json', data_prefix=dict(img='val/'))

# None: completed from `data_root`, and the evaluator's file from the data set.
train_dataloader = dict(
    batch_size=4, dataset=dict(data_root=None, filter_cfg=dict(min_size=1), **_train))
val_dataloader = dict(dataset=dict(data_root=None, **_val))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=None)
test_evaluator = val_evaluator
