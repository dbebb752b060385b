"""`mim train` and `mim test` from outside the checkout, with the package installed as a wheel."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from cli import ROOT, build_wheel, run, small_options, write_coco

# openmim without the parts that the two commands do not use: the data set downloader pins old
# versions of setuptools and rich.
MIM = (
    *('openmim', 'click', 'colorama', 'model-index', 'requests', 'pandas', 'tabulate'),
    *('ordered-set', 'markdown', 'urllib3', 'certifi', 'idna', 'charset-normalizer'),
)


@pytest.fixture(scope='module')
def mim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mim in an environment of its own that sees the packages of this one."""
    folder = tmp_path_factory.mktemp('mim')
    run([sys.executable, '-m', 'venv', 'env'], folder)
    python = folder / 'env' / 'bin' / 'python'
    site = subprocess.check_output(
        [python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], text=True
    ).strip()
    Path(site, 'tested.pth').write_text(sysconfig.get_path('purelib'), encoding='utf-8')
    pip = [python, '-m', 'pip', 'install', '-q', '--no-deps']
    run([*pip, '-c', ROOT / 'requirements' / 'constraints.txt', *MIM], folder)
    run([*pip, build_wheel(folder)], folder)
    return folder / 'env' / 'bin' / 'mim'


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
    for config in (ROOT / 'configs').glob('*.py'):
        assert f'config id: {config.stem}\n' in text
