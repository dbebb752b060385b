_base_ = 'mmdet::_base_/default_runtime.py'

default_scope = 'mmdetr_plugin'
default_hooks = dict(checkpoint=dict(max_keep_ckpts=3, save_best='auto'))
# The data set must have as many classes as the model.
custom_hooks = [dict(type='mmdet.NumClassCheckHook')]
