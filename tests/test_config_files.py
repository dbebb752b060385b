"""What must hold of every config file: short, complete, and of the published size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tiny
from mmcv.transforms import TRANSFORMS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import METRICS, DefaultScope

from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing.counting import build_shapes

TRAINABLE = {
    'detr_r50': 41.302,
    'detr_dc5_r50': 41.302,
    'detr_r101': 60.242,
    'detr_dc5_r101': 60.242,
    'detr_panoptic_r50': 42.677,
    'detr_panoptic_dc5_r50': 42.677,
    'conditional_detr_r50': 43.196,
    'conditional_detr_dc5_r50': 43.196,
    'conditional_detr_r101': 62.136,
    'conditional_detr_dc5_r101': 62.136,
    'deformable_detr_single_scale_r50': 33.844,
    'deformable_detr_single_scale_dc5_r50': 33.844,
    'deformable_detr_r50': 39.847,
    'deformable_detr_refine_r50': 40.627,
    'deformable_detr_two_stage_r50': 40.959,
    'anchor_detr_r50': 36.816,
    'anchor_detr_dc5_r50': 36.816,
    'smca_detr_r50': 41.538,
    'smca_detr_ms_r50': 40.764,
    'sam_detr_r50': 58.074,
    'sam_detr_smca_r50': 58.123,
    'sam_detr_ms_smca_r50': 55.022,
    'dab_detr_r50': 43.449,
    'dab_detr_r50_3pat': 43.450,
    'dab_deformable_detr_r50': 47.184,
    'dn_dab_detr_r50': 43.473,
    'dn_dab_deformable_detr_r50': 47.207,
    'dino_r50': 46.671,
    'dino_5scale_r50': 47.033,
    'h_deformable_detr_r50': 47.724,
    'group_conditional_detr_r50': 43.964,
    'rt_detr_r18': 20.184,
    'rt_detr_r34': 31.442,
    'rt_detr_r50': 42.863,
    'rt_detr_r50_m': 36.565,
    'rt_detr_r101': 76.528,
    'rtdetrv2_r18': 20.184,
    'rtdetrv2_r50': 42.863,
    'd_fine_n': 3.783,
    'd_fine_s': 10.322,
    'd_fine_m': 19.590,
    'd_fine_l': 31.219,
    'd_fine_x': 62.596,
    'deim_d_fine_n': 3.783,
    'deim_d_fine_s': 10.322,
    'deim_d_fine_m': 19.590,
    'deim_d_fine_l': 31.290,
    'deim_d_fine_x': 62.715,
    'up_detr_r50': 41.303,
    'up_detr_pretrain_r50': 19.187,
}
"""Millions of trainable parameters of the authors' models (tests/parity/facts.md), which have 91
classes, the panoptic ones 250, the real-time ones 80."""
REAL_TIME = re.compile('rt_?detr|(deim_)?d_fine|deimv2')


ROUNDED = {
    'lw_detr_tiny': 12.1,
    'lw_detr_small': 14.6,
    'lw_detr_medium': 28.2,
    'rf_detr_nano': 30.5,
    'rf_detr_small': 32.1,
    'rf_detr_medium': 33.7,
}
"""Of models of which only the table of their README is known."""


@pytest.fixture(scope='module', params=[*tiny.CONFIGS, *tiny.FINETUNE])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def cfg(name: str) -> Config:
    return tiny.load(name)


FILES = sorted((tiny.ROOT / 'configs').rglob('*.py'))


@pytest.mark.parametrize('file', FILES, ids=lambda file: str(file.relative_to(tiny.ROOT)))
def test_file_is_short(file: Path) -> None:
    lines = file.read_text(encoding='utf-8').splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith('#')]) <= 40
    if '_base_' not in file.parts:
        assert lines[0].startswith('# '), 'the first line says what it is'


def test_configs_do_not_undo_their_bases() -> None:
    """A part is replaced as a whole, by one of another type: `_delete_` stands before `type`."""
    for file in FILES:
        for rest in file.read_text(encoding='utf-8').split('_delete_=True,')[1:]:
            assert rest.lstrip().startswith(('type=', 'optimizer=')), file


@pytest.mark.parametrize('line', ['/models/resnet101-', '/models/resnet50-', 'dilations='])
def test_backbones_are_written_once(line: str) -> None:
    assert len([f for f in FILES if line in f.read_text(encoding='utf-8')]) == 1


def test_few_lines_are_repeated() -> None:
    """Lines that belong to three or more in a row which stand in another file too."""
    files = {f: [*filter(None, f.read_text(encoding='utf-8').splitlines())] for f in FILES}
    runs = {
        (file, i): tuple(lines[i : i + 3])
        for file, lines in files.items()
        for i in range(len(lines) - 2)
    }
    where: dict[tuple[str, ...], set[Path]] = {}
    for (file, _), run in runs.items():
        where.setdefault(run, set()).add(file)
    shared = {
        (file, i + j) for (file, i), run in runs.items() if len(where[run]) > 1 for j in range(3)
    }
    assert len(shared) <= len(FILES), sorted((file.name, i) for file, i in shared)


def test_values_are_stated_once(cfg: Config) -> None:
    assert cfg.default_scope == 'mmdetr_plugin'
    for key in ('num_classes', 'num_queries'):
        assert count(cfg.model, key) == 1
    inside = {slot: part for slot, part in cfg.model.items() if slot != 'backbone'}
    # Where contents are learned, the indicator of noised queries takes a channel from them.
    assert count(inside, 'embed_dims') == 1 + ('embed_dims' in cfg.model.queries)
    assert count(cfg.model, 'num_outs') == 0, 'num_levels of the model says it'
    assert count(cfg.model, 'num_levels') == ('num_levels' in cfg.model)
    masks = 'mask_head' in cfg.model  # it reads those of the backbone's maps that the neck does not
    assert ('in_channels' in cfg.model.neck) == masks
    assert cfg.model.backbone.type
    assert cfg.auto_scale_lr.base_batch_size >= cfg.train_dataloader.batch_size


@pytest.mark.parametrize('name', tiny.FINETUNE)
def test_finetuning_changes_the_schedule_alone(name: str) -> None:
    """The model is the published one, and is tested as such; its rate is lower and warmed up."""
    published, epochs = re.fullmatch(r'finetune/(.*)_(\d+)e', name).groups()
    cfg, source = tiny.load(name), tiny.load(published)
    assert cfg.model.num_classes is None
    assert {**cfg.model, 'num_classes': 80} == source.model
    assert cfg.train_cfg.max_epochs == int(epochs)
    warmup, drop = cfg.param_scheduler
    assert warmup.type == 'LinearLR' and warmup.end < drop.milestones[0] < int(epochs)
    ours, theirs = cfg.optim_wrapper, source.optim_wrapper
    assert ours.optimizer.lr <= theirs.optimizer.lr / 2
    assert ours.clip_grad == theirs.clip_grad
    rates, published_rates = (w.paramwise_cfg.custom_keys for w in (ours, theirs))
    assert rates.items() <= published_rates.items()
    batch = cfg.train_dataloader.batch_size * ours.accumulative_counts
    assert cfg.auto_scale_lr.base_batch_size == batch, 'one GPU needs no change'


def count(node: object, key: str) -> int:
    """How often a key stands in a nested config."""
    if isinstance(node, dict):
        return (key in node) + sum(count(value, key) for value in node.values())
    if isinstance(node, (list, tuple)):
        return sum(count(item, key) for item in node)
    return 0


def test_data_and_evaluation_can_be_built(cfg: Config) -> None:
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        for split in ('train', 'val', 'test'):
            if cfg[f'{split}_dataloader'] is None:  # a pre-training without labels
                assert cfg[f'{split}_evaluator'] is None and cfg[f'{split}_cfg'] is None
                continue
            pipeline = cfg[f'{split}_dataloader'].dataset.pipeline
            assert len(TRANSFORMS.build(dict(type='Compose', transforms=pipeline)).transforms) > 2
        given = [e for e in (cfg.val_evaluator, cfg.test_evaluator) if e is not None]
        for evaluator in given:
            for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
                with METRICS.switch_scope_and_registry(None) as registry:
                    assert registry.get(metric.type) is not None
    assert cfg.train_cfg.max_epochs > 0


def test_every_learning_rate_has_its_parameters(cfg: Config) -> None:
    """A key of `custom_keys` that meets no parameter would do nothing, without a word."""
    model = MODELS.build(tiny.shrink(cfg.model))
    keys = cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
    names = [name for name, p in model.named_parameters()]
    if not any('queries.reference' in name for name in names):  # an inherited key
        keys = {key: value for key, value in keys.items() if key != 'queries.reference'}
    assert [key for key in keys if not any(key in name for name in names)] == []
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {id(p): group for group in optimizer.param_groups for p in group['params']}
    base = cfg.optim_wrapper.optimizer.lr
    by_block = 'constructor' in cfg.optim_wrapper  # tests/test_layer_decay.py has these rates
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or (by_block and name.startswith('backbone.')):
            continue
        key = max((key for key in keys if key in name), key=len, default=None)
        rate = keys[key].get('lr_mult', 1.0) if key else 1.0
        assert groups[id(parameter)]['lr'] == pytest.approx(base * rate), name


def test_size_is_the_published_one(name: str, cfg: Config) -> None:
    model = cfg.model.copy()
    model.num_classes = 250 if 'panoptic' in name else 80 if REAL_TIME.match(name) else 91
    built = build_shapes(model)
    trainable = sum(p.numel() for p in built.parameters() if p.requires_grad)
    assert trainable > 0
    if name in TRAINABLE:
        assert round(trainable / 1e6, 3) == TRAINABLE[name]
    if name in ROUNDED:
        assert round(trainable / 1e6, 1) == ROUNDED[name]
