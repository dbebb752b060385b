# Data of one's own, see custom_detection.py, with the pipelines of the real-time generation.
_base_ = ['./custom_detection.py', './real_time_augmentation.py']

train_pipeline = _base_.strong_pipeline
test_pipeline = _base_.square_pipeline
train_dataloader = dict(batch_sampler=None, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
