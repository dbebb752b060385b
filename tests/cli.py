"""Running and loading commands, and a COCO of two pictures for them to work on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import mmcv
import numpy as np
from mmdet.datasets import CocoDataset

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / 'tools'
NOTICE = 'Could not import OneDL. Skipping OneDL datasets.\n'
"""What the onedl fork of mmdet prints when it is imported."""


def run(
    command: Sequence[object],
    cwd: Path,
    code: int | None = 0,
    timeout: float = 240,
    **environment: object,
) -> str:
    """Run a command to its end, check its exit code, return what it printed."""
    # Two cores: more threads in a short run cost more than they bring.
    variables = {**os.environ, 'OMP_NUM_THREADS': '1', **environment}
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert code is None or result.returncode == code, f'{command}:\n{result.stdout[-5000:]}'
    return result.stdout.replace(NOTICE, '')


def run_python(script: Path, *arguments: object, cwd: Path, code: int | None = 0) -> str:
    return run([sys.executable, script, *arguments], cwd, code)


@cache
def load(script: Path) -> ModuleType:
    """The module of a command, for tests of its functions."""
    name = f'command_{script.stem}'
    spec = spec_from_file_location(name, script)
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def build_wheel(folder: Path) -> Path:
    """The wheel that `python -m build` makes, through a source package, of a copy of the files."""
    copy_checkout(folder / 'source')
    run([sys.executable, '-m', 'build', '--no-isolation', '-o', folder, 'source'], folder)
    (wheel,) = folder.glob('*.whl')
    return wheel


def copy_checkout(target: Path) -> None:
    """The files of the project, without those that git ignores."""
    listed = run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'], ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():  # not one that is deleted but still in the index
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def write_coco(folder: Path) -> None:
    """Two pictures with one box each, laid out as COCO is: train2017, val2017, annotations."""
    noise = np.random.default_rng(0)
    classes = CocoDataset.METAINFO['classes']
    images, annotations = [], []
    for i in (1, 2):
        picture = noise.integers(0, 255, (64, 80, 3), dtype=np.uint8)
        box = [10 * i, 8 * i, 24, 20]
        images.append({'id': i, 'file_name': f'{i}.jpg', 'height': 64, 'width': 80})
        annotations.append(
            {'id': i, 'image_id': i, 'category_id': i, 'bbox': box, 'area': 480, 'iscrowd': 0}
        )
        for split in ('train', 'val'):
            mmcv.imwrite(picture, str(folder / f'{split}2017' / f'{i}.jpg'))
    coco = {
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i, 'name': n} for i, n in enumerate(classes, start=1)],
    }
    (folder / 'annotations').mkdir()
    for split in ('train', 'val'):
        file = folder / 'annotations' / f'instances_{split}2017.json'
        file.write_text(json.dumps(coco), encoding='utf-8')


def small_options(coco: Path) -> list[str]:
    """`--cfg-options` that make any config of this package one short epoch on `write_coco`'s."""
    options = [
        'train_cfg.max_epochs=1',
        'default_hooks.logger.interval=1',
        'model.backbone.depth=18',
        'model.backbone.init_cfg=None',
        'model.neck.in_channels=[512]',
        'model.encoder.num_layers=1',
        'model.decoder.num_layers=1',
        'model.queries.num_queries=10',
    ]
    for split, short in (('train', 'train'), ('val', 'val'), ('test', 'val')):
        loader = f'{split}_dataloader'
        options += [
            f'{loader}.num_workers=0',
            f'{loader}.persistent_workers=False',
            f'{loader}.batch_size=1',
            f'{loader}.dataset.data_root={coco}/',
        ]
        if split != 'train':
            file = f'{coco}/annotations/instances_{short}2017.json'
            options.append(f'{split}_evaluator.ann_file={file}')
    return options
