"""Types resolve under every scope: ours, mmdet's, and none."""

from __future__ import annotations

import sys
from pathlib import Path

import mmdet.registry
import pytest
import tiny
from cli import run
from mmengine.registry import DefaultScope, Registry

from mmdetr_plugin import registry
from mmdetr_plugin.build import build_slot

TYPES = {
    'MODELS': ('DETR', 'DilatedResNet', 'Decoder', 'DeformableAttention', 'FocalClassLoss'),
    'TASK_UTILS': ('HungarianAssigner',),
    'OPTIM_WRAPPERS': ('BFloat16OptimWrapper',),
}
MMDET_TYPES = {
    'MODELS': (
        'ResNet',
        'ChannelMapper',
        'DetDataPreprocessor',
        'FasterRCNN',
    ),
    'TRANSFORMS': ('PackDetInputs', 'LoadAnnotations', 'RandomChoiceResize', 'LoadImageFromFile'),
    'DATASETS': ('CocoDataset',),
    'DATA_SAMPLERS': ('DefaultSampler', 'AspectRatioBatchSampler'),
    'HOOKS': ('DetVisualizationHook', 'CheckpointHook', 'EMAHook'),
    'METRICS': ('CocoMetric',),
    'VISUALIZERS': ('DetLocalVisualizer',),
    'VISBACKENDS': ('LocalVisBackend',),
    'OPTIMIZERS': ('AdamW', 'SGD'),
    'OPTIM_WRAPPERS': ('OptimWrapper', 'AmpOptimWrapper'),
    'OPTIM_WRAPPER_CONSTRUCTORS': ('DefaultOptimWrapperConstructor',),
    'PARAM_SCHEDULERS': ('MultiStepLR', 'LinearLR'),
    'LOOPS': ('EpochBasedTrainLoop', 'ValLoop', 'TestLoop'),
    'LOG_PROCESSORS': ('LogProcessor',),
    'RUNNERS': ('Runner',),
    'TASK_UTILS': ('MaxIoUAssigner', 'FocalLossCost'),
    'WEIGHT_INITIALIZERS': ('Pretrained',),
}

pairs = pytest.mark.parametrize(
    ('kind', 'name'), [(kind, name) for kind, names in TYPES.items() for name in names]
)


def fresh(code: str, folder: Path) -> str:
    """What a program prints that has imported nothing of ours."""
    return run([sys.executable, '-W', 'ignore', '-c', code], folder)


@pairs
@pytest.mark.parametrize('scope', ['mmdetr_plugin', 'mmdet', 'mmengine', 'elsewhere'])
def test_prefix_works_under_every_default_scope(scope: str, kind: str, name: str) -> None:
    with DefaultScope.overwrite_default_scope(scope):
        for parent in (getattr(mmdet.registry, kind), getattr(registry, kind)):
            assert parent.get(f'mmdetr_plugin.{name}').__name__ == name


@pairs
def test_classes_are_attributes_of_the_package(kind: str, name: str) -> None:
    import mmdetr_plugin

    assert getattr(mmdetr_plugin, name) is getattr(registry, kind).get(name)


def test_package_has_no_other_attributes() -> None:
    import mmdetr_plugin

    with pytest.raises(AttributeError, match="'mmdetr_plugin' has no attribute 'NoSuchPart'"):
        _ = mmdetr_plugin.NoSuchPart


@pytest.mark.parametrize('kind', sorted(MMDET_TYPES))
def test_types_of_mmdet_need_no_prefix(kind: str) -> None:
    ours: Registry = getattr(registry, kind)
    for name in MMDET_TYPES[kind]:
        assert ours.get(name).__name__.startswith(name)


def test_every_registry_is_a_child_of_mmdets() -> None:
    names = {
        name
        for name, value in vars(mmdet.registry).items()
        if isinstance(value, Registry) and not name.startswith('MMENGINE')
    }
    for name in names:
        ours = getattr(registry, name)
        assert ours.scope == 'mmdetr_plugin'
        assert ours.parent is getattr(mmdet.registry, name)


WITHOUT_SCOPE = """
from {module} import MODELS, TASK_UTILS
layer = MODELS.build(dict(type='mmdetr_plugin.MultiScaleDeformableAttention'))
costs = [dict(type='mmdet.BBoxL1Cost')]
assigner = TASK_UTILS.build(dict(type='mmdetr_plugin.HungarianAssigner', match_costs=costs))
print(type(layer).__module__, type(assigner).__module__)
"""

OUR_SCOPE = """
from mmengine import registry
registry.init_default_scope('mmdetr_plugin')
for kind, name in {pairs}:
    with getattr(registry, kind).switch_scope_and_registry(None) as active:
        print(active.get(name).__module__.split('.')[0])
"""


@pytest.mark.parametrize('module', ['mmdet.registry', 'mmengine.registry'])
def test_prefix_needs_no_import(module: str, tmp_path: Path) -> None:
    """In a new process without default scope, custom_imports or an import of ours."""
    layer, assigner = fresh(WITHOUT_SCOPE.format(module=module), tmp_path).split()
    assert layer == 'mmdetr_plugin.attention.deformable'
    assert assigner == 'mmdetr_plugin.criterion.assigner'


def test_our_scope_needs_no_import(tmp_path: Path) -> None:
    """In a new process under ``default_scope = 'mmdetr_plugin'``, as the runner builds things."""
    theirs = [
        ('MODELS', 'ResNet'),
        ('DATASETS', 'CocoDataset'),
        ('HOOKS', 'DetVisualizationHook'),
        ('TRANSFORMS', 'PackDetInputs'),
        ('METRICS', 'CocoMetric'),
        ('VISUALIZERS', 'DetLocalVisualizer'),
    ]
    ours = [(kind, name) for kind, names in TYPES.items() for name in names]
    text = fresh(OUR_SCOPE.format(pairs=theirs + ours), tmp_path)
    assert text.split() == ['mmdet'] * len(theirs) + ['mmdetr_plugin'] * len(ours)


def test_dicts_with_mmdets_scope_mean_mmdets_types() -> None:
    """What a config inherits by ``mmdet::`` keeps ``_scope_ = 'mmdet'``."""
    cost = dict(type='BBoxL1Cost')
    inherited = dict(type='HungarianAssigner', match_costs=[cost], _scope_='mmdet')
    ours = dict(inherited, type='mmdetr_plugin.HungarianAssigner')
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        theirs = registry.TASK_UTILS.build(inherited)
        assert type(theirs) is mmdet.registry.TASK_UTILS.get('mmdet.HungarianAssigner')
        assert type(registry.TASK_UTILS.build(ours)).__module__.startswith('mmdetr_plugin')
        slot = dict(type='MultiScaleDeformableAttention')
        for scope, package in (({}, 'mmdetr_plugin'), ({'_scope_': 'mmdet'}, 'mmcv')):
            built = build_slot(registry.MODELS, {**slot, **scope}, 'attention')
            assert type(built).__module__.startswith(package)


def test_models_build_whatever_the_default_scope_is() -> None:
    """Somebody's mmdet model, built before in the same process, leaves mmdet's scope behind."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = tiny.build('detr_panoptic_r50')
        assert type(model).__module__ == 'mmdetr_plugin.detector'
        assert type(model.criterion.assigner).__module__ == 'mmdetr_plugin.criterion.assigner'
