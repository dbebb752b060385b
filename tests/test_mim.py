"""mim from outside the checkout, in the environment that the README's lines make for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cli import ROOT, copy_checkout, run, small_options, write_coco
from test_readme import COMMANDS

LINES = [line for line in COMMANDS if '.venv-mim' in line]


@pytest.fixture(scope='module')
def mim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('mim')
    copy_checkout(folder)
    (folder / '.venv').symlink_to(sys.prefix)
    for line in LINES[:3]:
        run(['bash', '-c', line], folder)
    return folder / '.venv-mim' / 'bin' / 'mim'


def test_the_readme_has_the_lines() -> None:
    assert len(LINES) == 5
    assert LINES[3].endswith('mim train mmdetr_plugin deformable_detr_r50.py')
    assert LINES[4].endswith('mim test mmdetr_plugin deformable_detr_r50.py --checkpoint CKPT')


@pytest.mark.slow
def test_mim_trains_and_tests(mim: Path, tmp_path: Path) -> None:
    coco = tmp_path / 'coco'
    write_coco(coco)
    options = ['--cfg-options', *small_options(coco)]
    # The config's bare name: mim finds the file in the package.
    train = [mim, 'train', 'mmdetr_plugin', 'deformable_detr_single_scale_r50.py', '--gpus', '0']
    text = run([*train, '--work-dir', 'work', *options], tmp_path)
    assert 'Training finished successfully' in text
    # The config as training wrote it: a path outside of the package.
    test = [mim, 'test', 'mmdetr_plugin', 'work/deformable_detr_single_scale_r50.py']
    text = run([*test, '--checkpoint', 'work/epoch_1.pth', '--gpus', '0'], tmp_path)
    assert 'coco/bbox_mAP' in text
    assert 'Testing finished successfully' in text


@pytest.mark.slow
def test_mim_lists_the_configs(mim: Path, tmp_path: Path) -> None:
    text = run([mim, 'search', 'mmdetr_plugin', '--local'], tmp_path)
    assert 'box_ap_of_the_authors' in text
    for config in (ROOT / 'configs').glob('*.py'):
        assert f'config id: {config.stem}\n' in text


@pytest.mark.slow
def test_mim_downloads_no_weights(mim: Path, tmp_path: Path) -> None:
    command = [mim, 'download', 'mmdetr_plugin', '--config', 'detr_r50', '--dest', '.']
    assert 'weight' in run(command, tmp_path, code=1)
