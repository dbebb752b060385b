_base_ = 'mmdet::_base_/default_runtime.py'

default_scope = 'mmdetr_plugin'
# Whoever reads the config can read the checkpoints that were made with it, too.
custom_imports = dict(imports=['mmdetr_plugin'], allow_failed_imports=False)
# A run may be killed at any moment; one that is resumed goes on as if it had not been.
default_hooks = dict(
    checkpoint=dict(type='mmdetr_plugin.WholeCheckpointHook', max_keep_ckpts=3, save_best='auto'),
    sampler_seed=dict(type='mmdetr_plugin.EpochSeedHook'),
    threads=dict(type='mmdetr_plugin.SharedThreadsHook'),
    memory=dict(type='mmdetr_plugin.KeepMemoryHook'))
# The data set must have as many classes as the model; weights of others are made to fit. The log says
# what is trained, on what batch. Processes agree on the statistics of batch norms before validation and
# a checkpoint, which holds those of one of them.
custom_hooks = [
    dict(type='mmdet.NumClassCheckHook'),
    dict(type='mmdetr_plugin.CheckpointAdapter'),
    dict(type='mmdetr_plugin.NonFiniteHook'),
    dict(type='mmdetr_plugin.EffectiveBatchHook'),
    dict(type='mmdetr_plugin.ParameterTableHook'),
    dict(type='SyncBuffersHook'),
]
