"""`tools/benchmarks/finetune.py`: the same training twice, but for where it starts."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from cli import TOOLS, load, run_python

from mmdetr_plugin.datasets import make_digits

finetune = load(TOOLS / 'benchmarks' / 'finetune.py')


@pytest.fixture
def args(tmp_path: Path) -> argparse.Namespace:
    return argparse.Namespace(
        source_epochs=2, epochs=1, images=8, size=64, lr=1e-3, seed=3, workers=0,
        work_dir=tmp_path, data=tmp_path / 'digits',
    )  # fmt: skip


def test_runs_differ_in_their_start_alone(args: argparse.Namespace) -> None:
    source = args.work_dir / 'source'
    source.mkdir()
    (source / 'last_checkpoint').write_text(str(source / 'epoch_2.pth'))
    tuned, scratch = (finetune.make_config(run, args) for run in ('fine-tuned', 'from scratch'))
    assert tuned.pop('load_from') == str(source / 'epoch_2.pth')
    assert scratch.pop('load_from') is None
    assert (tuned.pop('work_dir'), scratch.pop('work_dir')) == (
        str(args.work_dir / 'fine-tuned'),
        str(args.work_dir / 'from_scratch'),
    )
    assert tuned.to_dict() == scratch.to_dict()
    assert tuned.model.num_classes == 5
    for loader in (tuned.train_dataloader, tuned.val_dataloader):
        assert loader.dataset.metainfo.classes == tuple('56789')
    assert any('CheckpointAdapter' in hook.type for hook in tuned.custom_hooks)
    before = finetune.make_config('source', args)
    assert before.train_dataloader.dataset.metainfo.classes == tuple('01234')
    assert before.resume is True
    assert before.load_from is None


def test_table() -> None:
    point = {'epoch': 1, 'ap': 0.25, 'ap50': 0.5}
    curves = {
        'fine-tuned': [point, {'epoch': 2, 'ap': 0.3, 'ap50': 0.6}],
        'from scratch': [{**point, 'ap': 0.01}],
    }
    assert finetune.table(curves).splitlines()[2:] == [
        '| 1 | 0.250 (0.500) | 0.010 (0.500) |',
        '| 2 | 0.300 (0.600) | - |',
    ]


@pytest.mark.slow
def test_as_a_user_runs_it(args: argparse.Namespace, tmp_path: Path) -> None:
    make_digits(args.data, num_train=24, num_val=4, size=64)
    options = {'source-epochs': 1, 'epochs': 1, 'images': 8, 'size': 64}
    words = [word for key, value in options.items() for word in (f'--{key}', value)]
    places = ('--data', args.data, '--work-dir', tmp_path / 'work')
    text = run_python(TOOLS / 'benchmarks' / 'finetune.py', *words, *places, cwd=tmp_path)
    assert '| epoch | fine-tuned, AP (AP50) | from scratch |' in text
    log = (tmp_path / 'work' / 'finetune.log').read_text()
    assert log.count('classes: 0 of 5 found by name') == 1
    assert 'classes without a row in the checkpoint, re-initialised: 5, 6, 7, 8, 9' in log
