# The boxes of things and stuff in COCO panoptic. Those of things are evaluated, on COCO's instances.
_base_ = './coco_panoptic.py'

train_pipeline = _base_.train_pipeline
train_pipeline[1]['with_mask'] = False
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

val_evaluator = [dict(_base_.val_evaluator[0], metric='bbox')]
test_evaluator = val_evaluator
