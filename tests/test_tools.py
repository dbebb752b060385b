"""The command-line tools, run as a user runs them."""

from __future__ import annotations

import argparse
import inspect
import json
import pickle
import re
import socket
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cli import ROOT, TOOLS, load, run, run_python, small_options, write_coco
from mmengine.config import Config

import mmdetr_plugin.engine.command_line as command_line

CONFIG = ROOT / 'configs' / 'detr_r50.py'


COMMANDS = sorted(
    file
    for folder in ('tools', 'tools/benchmarks', 'scripts')
    for file in (ROOT / folder).glob('*.py')
)


@pytest.mark.parametrize('script', COMMANDS, ids=lambda script: script.stem)
def test_every_command_is_a_program_and_nothing_else(script: Path) -> None:
    """It needs no other command on the path of imports, and starts as all of them do."""
    signature = inspect.signature(load(script).main)
    assert str(signature) == "(argv: 'Sequence[str] | None' = None) -> 'int'"
    text = script.read_text()
    assert text.startswith('#!/usr/bin/env python3\n')
    assert text.endswith("\n\nif __name__ == '__main__':\n    sys.exit(main())\n")


def parser_error(capsys: pytest.CaptureFixture[str], function, *arguments: object) -> str:
    with pytest.raises(SystemExit):
        function(argparse.ArgumentParser(), *arguments)
    return capsys.readouterr().err


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_help_names_mmdets_flags(script: str, tmp_path: Path) -> None:
    text = run_python(TOOLS / script, '--help', cwd=tmp_path)
    flags = {
        'train.py': ('--amp', '--auto-scale-lr', '--resume'),
        'test.py': ('checkpoint', '--out', '--show', '--show-dir', '--wait-time'),
    }[script]
    for flag in ('config', '--work-dir', '--cfg-options', '--launcher', *flags):
        assert flag in text
    # mim passes flags of OpenMMLab 1.x to a script whose help names this one.
    assert '--gpus' not in text


@pytest.mark.parametrize('script', ['train.py', 'test.py'])
def test_missing_config_is_told(script: str, tmp_path: Path) -> None:
    text = run_python(TOOLS / script, 'configs/detr_r5.py', 'x.pth', cwd=tmp_path, code=2)
    if script == 'test.py':
        assert 'config must be a file, got configs/detr_r5.py; did you mean' in text
        assert 'detr_r50' in text
    assert 'Traceback' not in text


def test_missing_checkpoint_is_told(tmp_path: Path) -> None:
    text = run_python(TOOLS / 'test.py', CONFIG, 'gone.pth', cwd=tmp_path, code=2)
    assert 'checkpoint must be a file or an address, got gone.pth' in text


@pytest.mark.parametrize(
    ('given', 'read'),
    [
        ('--amp c.py', '--amp=auto c.py'),
        ('c.py --amp', 'c.py --amp=auto'),
        ('c.py --amp fp16 --resume', 'c.py --amp fp16 --resume'),
        ('c.py --amp=bf16', 'c.py --amp=bf16'),
    ],
)
def test_amp_alone_does_not_swallow_the_config(given: str, read: str) -> None:
    assert command_line.spell_out_amp(given.split()) == read.split()


def test_amp_chooses_an_optim_wrapper(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrapper(precision: str, gpu: bool) -> dict:
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
        cfg = Config({'optim_wrapper': {'type': 'OptimWrapper', 'clip_grad': {'max_norm': 0.1}}})
        command_line.set_precision(argparse.ArgumentParser(), cfg, precision)
        assert cfg.optim_wrapper.clip_grad.max_norm == 0.1
        return cfg.optim_wrapper

    assert wrapper('auto', gpu=True).type == 'mmdetr_plugin.FiniteAmpOptimWrapper'
    assert wrapper('fp16', gpu=True).loss_scale == 'dynamic'
    assert wrapper('bf16', gpu=True).type == 'mmdetr_plugin.BFloat16OptimWrapper'
    assert wrapper('auto', gpu=False).type == 'mmdetr_plugin.BFloat16OptimWrapper'
    cfg = Config({'optim_wrapper': {}})
    text = parser_error(capsys, command_line.set_precision, cfg, 'fp16')
    assert '--amp fp16 needs a GPU, none is available; use --amp bf16' in text


def test_the_learning_rate_scales_with_the_root_of_the_batch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def runner(**auto_scale_lr: object) -> SimpleNamespace:
        return SimpleNamespace(
            cfg=Config({'auto_scale_lr': auto_scale_lr}),
            train_dataloader={'batch_size': 2},
            optim_wrapper={'optimizer': {'lr': 1e-4}, 'accumulative_counts': 2},
            world_size=2,
        )

    scaled = runner(base_batch_size=32)
    command_line.scale_learning_rate(argparse.ArgumentParser(), scaled)
    assert scaled.optim_wrapper['optimizer']['lr'] == pytest.approx(5e-5)  # of 8 images, not of 32
    assert scaled.cfg.auto_scale_lr.base_batch_size == 8
    text = parser_error(capsys, command_line.scale_learning_rate, runner())
    assert 'add auto_scale_lr = dict(base_batch_size=N)' in text


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('coco')
    write_coco(folder)
    return folder


@pytest.fixture(scope='module')
def trained(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `tools/train.py` has run for one epoch, in bfloat16."""
    folder = tmp_path_factory.mktemp('trained')
    text = run_python(
        *(TOOLS / 'train.py', CONFIG, '--amp', '--auto-scale-lr'),
        *('--cfg-options', *small_options(coco)),
        cwd=folder,
    )
    assert 'learning rate 0.0001 for 64 images scaled to 1.25e-05 for 1' in text
    assert re.search(r'Epoch\(train\)\s+\[1\]\[2/2\]', text)
    assert (folder / 'work_dirs' / 'detr_r50' / 'epoch_1.pth').is_file()
    return folder


def test_training_resumes_from_the_latest_checkpoint(trained: Path, coco: Path) -> None:
    options = [*small_options(coco), 'train_cfg.max_epochs=2']
    text = run_python(
        TOOLS / 'train.py', CONFIG, '--resume', '--cfg-options', *options, cwd=trained
    )
    assert 'resumed epoch: 1, iter: 2' in text
    assert set(re.findall(r'Epoch\(train\)\s+\[(\d)\]', text)) == {'2'}


def test_a_checkpoint_is_evaluated(trained: Path, coco: Path) -> None:
    """In a folder of its own: the config of the run stays as training left it."""
    work_dir = trained / 'work_dirs' / 'detr_r50'
    config = (work_dir / 'detr_r50.py').read_text()
    text = run_python(
        *(TOOLS / 'test.py', CONFIG, 'work_dirs/detr_r50/epoch_1.pth'),
        *('--out', 'out.pkl', '--out', 'results/out.json', '--show-dir', 'drawn'),
        *('--cfg-options', *small_options(coco)),
        cwd=trained,
    )
    assert 'coco/bbox_mAP' in text
    predictions = pickle.loads((trained / 'out.pkl').read_bytes())
    assert len(predictions) == 2
    results = json.loads((trained / 'results/out.bbox.json').read_text())
    assert {result['image_id'] for result in results} == {1, 2}
    scores = [sample['pred_instances']['scores'].tolist() for sample in predictions]
    assert sorted(result['score'] for result in results) == pytest.approx(sorted(chain(*scores)))
    assert len(list((work_dir / 'test').glob('*/drawn/*.jpg'))) == 2
    assert (work_dir / 'detr_r50.py').read_text() == config
    assert 'out.pkl' in (work_dir / 'test' / 'detr_r50.py').read_text()


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_shell_scripts_tell_their_usage(script: str, tmp_path: Path) -> None:
    text = run(['bash', TOOLS / script, 'config.py'], tmp_path, code=2)
    assert f'bash tools/{script}' in text


def test_number_of_gpus_is_checked(tmp_path: Path) -> None:
    text = run(['bash', TOOLS / 'dist_train.sh', CONFIG, '--amp'], tmp_path, code=2)
    assert "dist_train.sh: GPUS must be a number, got '--amp'" in text


def test_two_processes_train_on_the_cpu(coco: Path, tmp_path: Path) -> None:
    text = run(
        ['bash', TOOLS / 'dist_train.sh', CONFIG, '2', '--cfg-options', *small_options(coco)],
        tmp_path,
        PYTHON=sys.executable,
        PORT=free_port(),
    )
    # Two pictures, two processes: one step.
    assert re.search(r'Epoch\(train\)\s+\[1\]\[1/1\]', text)
    assert (tmp_path / 'work_dirs' / 'detr_r50' / 'epoch_1.pth').is_file()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize('script', ['train', 'test'])
def test_dist_scripts_pass_on_what_a_machine_is_told(script: str, tmp_path: Path) -> None:
    python = fake_command(tmp_path, 'python')
    arguments = {'train': ['c.py', '8', '--amp'], 'test': ['c.py', 'c.pth', '8', '--show']}[script]
    text = run(
        ['bash', TOOLS / f'dist_{script}.sh', *arguments],
        tmp_path,
        PYTHON=python,
        NNODES=2,
        NODE_RANK=1,
        MASTER_ADDR='node0',
        PORT=1234,
    )
    start = (
        '-m torch.distributed.run --nnodes 2 --node_rank 1 --master_addr node0 '
        f'--master_port 1234 --nproc_per_node 8 {TOOLS}/{script}.py '
    )
    rest = {'train': 'c.py --amp', 'test': 'c.py c.pth --show'}[script]
    assert text.strip() == f'{start}{rest} --launcher pytorch'


@pytest.mark.parametrize('script', ['train', 'test'])
def test_slurm_scripts_ask_for_gpus(script: str, tmp_path: Path) -> None:
    fake_command(tmp_path, 'srun')
    last = {'train': 'work', 'test': 'c.pth'}[script]
    text = run(
        ['bash', TOOLS / f'slurm_{script}.sh', 'part', 'job', 'c.py', last, '--cfg-options', 'a=1'],
        tmp_path,
        PATH=f'{tmp_path}:/usr/bin:/bin',
        PYTHON='py',
        GPUS=16,
        SRUN_ARGS='-x n1',
    )
    assert '--partition part --job-name job --gres gpu:8 --ntasks 16 --ntasks-per-node 8' in text
    middle = {'train': 'c.py --work-dir work', 'test': 'c.py c.pth'}[script]
    assert text.strip().endswith(
        f'-x n1 py -u {TOOLS}/{script}.py {middle} --cfg-options a=1 --launcher slurm'
    )


def fake_command(folder: Path, name: str) -> Path:
    """A command that prints its arguments."""
    file = folder / name
    file.write_text('#!/bin/sh\necho "$@"\n', encoding='utf-8')
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(('script', 'split'), [('train.py', 'train'), ('test.py', 'test')])
def test_coco_that_is_not_there_is_told(script: str, split: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'some.pth'
    checkpoint.touch()
    arguments = [ROOT / 'configs/detr_r50.py', *([checkpoint] if split == 'test' else [])]
    printed = run_python(TOOLS / script, *arguments, cwd=tmp_path, code=2)
    short = 'train' if split == 'train' else 'val'
    assert f'{tmp_path}/data/coco/annotations/instances_{short}2017.json' in printed
    assert 'https://cocodataset.org' in printed
    assert f'--cfg-options {split}_dataloader.dataset.data_root=FOLDER/' in printed
    assert 'Traceback' not in printed
