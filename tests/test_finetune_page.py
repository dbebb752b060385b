"""What docs/finetune.md shows: configs are built, commands and options fit, and at last it is run."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny
import torch
from cli import ROOT, run
from mmcv.transforms import TRANSFORMS
from mmengine.config import Config, DictAction
from mmengine.optim import build_optim_wrapper
from mmengine.registry import METRICS, DefaultScope
from test_completion import write
from test_docs import blocks, page
from tiny_timm import install

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.presence import annotated_datasets, leaves_folder
from mmdetr_plugin.engine.hooks.effective_batch import describe
from mmdetr_plugin.engine.hooks.parameter_table import parameter_table
from mmdetr_plugin.registry import HOOKS, MODELS, VISBACKENDS

TEXT = page('finetune')
COMMANDS = [
    line for block in re.findall(r'```bash\n(.*?)```', TEXT, re.S) for line in block.split('\n')
]
COMMANDS = [line for line in COMMANDS if line.startswith('python ')]
CONFIGS = [block for block in blocks('finetune') if '_base_ =' in block]
CLASSES = {'voc0712': 20, 'objects365v2': 365, 'lvis_v1': 1203, 'chosen = ': 2}
SMALL = {
    'backbone.depth': 18,
    'backbone.init_cfg': None,
    'neck.in_channels': [128, 256, 512],
    'encoder.num_layers': 1,
    'decoder.num_layers': 1,
    'queries.num_queries': 10,
}


def config(block: str, folder: Path) -> Config:
    """A block of the page, its data a folder with an empty picture."""
    file = folder / 'config.py'
    file.write_text(block.replace("'./", f"'{ROOT / 'configs'}/"), encoding='utf-8')
    cfg = Config.fromfile(file)
    for split in ('train', 'val', 'test'):
        for _, dataset in annotated_datasets(cfg, split):
            if leaves_folder(dataset):
                write(folder / dataset.ann_file)
    cfg.data_root = str(folder)
    return cfg


def pipelines(node: object) -> list[list]:
    """Of all data sets below a node."""
    if isinstance(node, dict):
        found = [node['pipeline']] if 'pipeline' in node else []
        return found + [p for value in node.values() for p in pipelines(value)]
    return [p for x in node for p in pipelines(x)] if isinstance(node, (list, tuple)) else []


def test_every_python_block_is_a_config() -> None:
    assert len(CONFIGS) == len(blocks('finetune')) == 13


@pytest.mark.parametrize('block', CONFIGS, ids=lambda b: re.search(r'^\w+ = .*', b[9:], re.M)[0])
def test_configs_can_be_built(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    cfg = config(block, tmp_path)
    complete(cfg)
    expected = next((number for key, number in CLASSES.items() if key in block), 3)
    assert cfg.model.num_classes == expected
    backbone = cfg.model.backbone
    if 'ResNet' in backbone.type:
        layers = cfg.model.decoder.num_layers
        model = tiny.shrink(cfg.model, num_classes=expected)
        model.decoder.num_layers = layers  # some are named
    else:
        model = cfg.model
        backbone.pop('init_cfg', None)
        model.encoder.num_layers = model.decoder.num_layers = 1
    model = MODELS.build(model)
    with torch.no_grad():
        outputs = model.eval()(torch.zeros(1, 3, 64, 96), mode='tensor')
    assert outputs['pred_logits'].shape[-1] - expected in (0, 1)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        build_optim_wrapper(model, cfg.optim_wrapper)
        for split in ('train', 'val', 'test'):
            for pipeline in pipelines(cfg[f'{split}_dataloader']):
                TRANSFORMS.build(dict(type='Compose', transforms=pipeline))
        TRANSFORMS.build(dict(type='Compose', transforms=cfg.get('tta_pipeline', [])))
        assert all(HOOKS.build(hook) for hook in cfg.custom_hooks)
        for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
            with METRICS.switch_scope_and_registry(None) as registry:
                assert registry.get(evaluator.type) is not None
        assert all(VISBACKENDS.get(b['type']) for b in cfg.visualizer.vis_backends)
    names = [name for name, _ in model.named_parameters()]
    for key in cfg.optim_wrapper.paramwise_cfg.custom_keys:
        assert any(key in name for name in names), key


def test_commands_fit_the_tools() -> None:
    assert len(COMMANDS) == 4
    for line in COMMANDS:
        _, script, first, *rest = shlex.split(line)
        source = (ROOT / script).read_text() + (
            ROOT / 'mmdetr_plugin/engine/command_line.py'
        ).read_text()
        assert all(f"'{word}'" in source for word in rest if word.startswith('--'))
        stem = Path(first).stem
        assert first in (f'configs/finetune/{stem}.py', f'work_dirs/{stem}/{stem}.py')
        cfg = tiny.load(f'finetune/{stem}')
        assert {word.split('=')[0] for word in rest if '=' in word} <= set(cfg)


def test_options_exist() -> None:
    cfg = tiny.load('finetune/detr_r50_12e')
    options = re.findall(r'`([a-z_]+(?:\.\w+)+)=(\S+?)`', TEXT)
    assert len(options) >= 4
    for key, value in options:
        node = cfg
        for step in key.split('.'):
            node = node[int(step)] if step.isdigit() else node[step]
        cfg.merge_from_dict({key: DictAction._parse_iterable(value)})
    flip = cfg.train_dataloader.dataset.pipeline[2]
    assert (flip.type, flip.prob) == ('RandomFlip', 0)


def test_every_config_is_in_the_table() -> None:
    named = re.findall(r'^\| `(\w+)_12e`, `..._50e` \| `\w+`', TEXT, re.M)
    listed = {f'finetune/{name}_{epochs}e' for name in named for epochs in (12, 50)}
    assert listed == set(tiny.FINETUNE)


def test_what_the_log_says_is_quoted_as_it_is(tmp_path: Path) -> None:
    assert describe(2, 1, 1, 8, 5e-5) in TEXT
    (block,) = [block for block in CONFIGS if 'frozen_parts' in block]
    cfg = config(block, tmp_path)
    complete(cfg)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rows = [row for row in parameter_table(model, groups).splitlines() if row[0] == '|']
    assert '\n'.join(rows) in TEXT


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tools, data of one's own, and weights for two classes of other data."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('tools', 'configs'):
        (folder / name).symlink_to(ROOT / name)
    make_digits(folder / 'data/mine', num_train=4, num_val=2, size=64)
    cfg = tiny.load('finetune/dino_r50_12e')
    cfg.merge_from_dict({f'model.{key}': value for key, value in SMALL.items()})
    model = MODELS.build({**cfg.model, 'num_classes': 2})
    meta = {'dataset_meta': {'classes': ('7', 'dog')}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'weights.pth')
    return folder


@pytest.mark.slow
def test_commands_work(checkout: Path) -> None:
    options = [f'model.{key}={value}'.replace(' ', '') for key, value in SMALL.items()]
    options += ['train_cfg.max_epochs=1', 'default_hooks.logger.interval=1']
    for line in COMMANDS:
        words = [sys.executable, *shlex.split(line)[1:]]
        words = [
            word.replace('epoch_12', 'epoch_1').replace('images 8', 'images 4') for word in words
        ]
        if 'overfit' in line:
            words[words.index('8')] = '4'
            words += [
                *options,
                '--steps',
                '2',
                '--interval',
                '1',
                '--work-dir',
                'work_dirs/overfit',
            ]
        elif 'train.py' in line:
            words += options
        text = run(words, checkout, code=1 if 'overfit' in line else None, timeout=600)
        assert 'Traceback' not in text, text[-3000:]
        if 'train.py' in line:
            assert 'effective batch = 4 per GPU x 1 GPUs x 2 accumulated = 8' in text
            assert re.search(r'\| total +\| +[\d,]+', text)
        if 'train.py' in line or 'test.py' in line:
            assert 'coco/bbox_mAP' in text
    left = Config.fromfile(
        checkout / 'work_dirs' / f'{Path(words[2]).parent.name}' / Path(words[2]).name
    )
    assert left.model.num_classes == 10
    assert list(left.test_dataloader.dataset.metainfo.classes) == list('0123456789')


OWN = """
_base_ = '{root}/configs/finetune/deformable_detr_two_stage_r50_12e.py'

op = dict(num_heads=4)
ffn = dict(hidden_dims=256)
norms = dict(norm_cfg=dict(requires_grad=True), norm_eval=False, frozen_stages=-1, init_cfg=None)
self_attn = dict(type='SelfAttention', num_heads=4)
model = dict(
    embed_dims=128,
    dropout=0.0,
    backbone=dict(depth=18, base_channels=32, **norms),
    neck=dict(in_channels=[64, 128, 256]),
    encoder=dict(num_layers=2, layer=dict(self_attn=op, ffn=ffn)),
    queries=dict(num_queries=30),
    decoder=dict(num_layers=3, layer=dict(self_attn=self_attn, cross_attn=op, ffn=ffn)))
optim_wrapper = dict(
    optimizer=dict(lr=6e-4), paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=1.0))))
"""
"""A config that a user with a small computer might write: from scratch, without ImageNet weights."""


@pytest.mark.training
def test_a_config_of_ones_own_learns_eight_images(tmp_path: Path) -> None:
    (tmp_path / 'own.py').write_text(OWN.format(root=ROOT), encoding='utf-8')
    make_digits(tmp_path / 'mine', num_train=16, num_val=4)
    words = [sys.executable, ROOT / 'tools/overfit.py', 'own.py', '--as-is', '--images', '8']
    words += ['--work-dir', 'overfit', '--results', 'results.json', '--cfg-options']
    words += ['data_root=mine', 'val_dataloader.dataset.pipeline.1.scale=(160,160)']
    run(words, tmp_path, timeout=1800)
    result = json.loads((tmp_path / 'results.json').read_text())['own']
    assert result['reached'] and result['ap'] >= 0.9
    assert (tmp_path / 'overfit/own/grid.png').stat().st_size > 10_000
