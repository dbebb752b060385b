"""Registries of scope ``mmdetr_plugin``: one child for each of mmdet's registries.

Under this scope a type without prefix is looked up here first, then in mmdet, then in mmengine. A
child registry does not trigger the lazy imports of its parents, so its locations include theirs.
"""

import mmdet.registry as _mmdet
from mmengine.registry import Registry

SCOPE = 'mmdetr_plugin'


def _child(name: str) -> Registry:
    parent: Registry = getattr(_mmdet, name)
    locations = [*parent.root._locations, *parent._locations, f'{SCOPE}.components']
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=locations)


RUNNERS = _child('RUNNERS')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS')
LOOPS = _child('LOOPS')
HOOKS = _child('HOOKS')
DATASETS = _child('DATASETS')
DATA_SAMPLERS = _child('DATA_SAMPLERS')
TRANSFORMS = _child('TRANSFORMS')
MODELS = _child('MODELS')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS')
OPTIMIZERS = _child('OPTIMIZERS')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS')
METRICS = _child('METRICS')
EVALUATOR = _child('EVALUATOR')
TASK_UTILS = _child('TASK_UTILS')
VISUALIZERS = _child('VISUALIZERS')
VISBACKENDS = _child('VISBACKENDS')
LOG_PROCESSORS = _child('LOG_PROCESSORS')
