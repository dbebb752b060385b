"""Every command of the README is run, in the order in which it stands there, at a small size."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import tiny
import torch
from cli import ROOT, run, small_options, write_coco

from mmdetr_plugin.checkpoints import to_official
from mmdetr_plugin.registry import MODELS

README = (ROOT / 'README.md').read_text(encoding='utf-8')
ELSEWHERE = {
    'make test': 'the run that this test is part of',
    'python tools/train.py configs/finetune/dino_r50_12e.py '
    '--cfg-options data_root=data/mine load_from=weights.pth': 'test_finetune_page.py',
    'python tools/overfit.py configs/conditional_detr_r50.py --images 8': 'test_benchmarks.py',
}
COMMANDS = [
    line.split('  #')[0].split(' #')[0].strip()
    for block in re.findall(r'```bash\n(.*?)```', README, re.S)
    for line in block.splitlines()
    if line.strip()
]


ELSEWHERE |= {command: 'test_mim.py' for command in COMMANDS if '.venv-mim' in command}


@pytest.fixture(scope='module')
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkout's files, a COCO of two pictures and a published checkpoint."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('tools', 'configs', 'tests', 'Makefile'):
        (folder / name).symlink_to(ROOT / name)
    write_coco(folder / 'data' / 'coco')
    cfg = tiny.load('detr_r50')
    cfg.model.backbone.init_cfg = None
    cfg.model.num_classes = 91
    model = MODELS.build(cfg.model)
    torch.save({'model': to_official(model.state_dict(), model)}, folder / 'detr-r50.pth')
    shutil.copy2(folder / 'data/coco/val2017/1.jpg', folder / 'image.jpg')
    return folder


def test_there_are_commands() -> None:
    assert {'make demo', 'make test', *ELSEWHERE} <= set(COMMANDS)
    assert 'bash tools/dist_train.sh configs/deformable_detr_r50.py 8' in COMMANDS


def test_make_runs_the_tools() -> None:
    printed = run(['make', '-n', 'demo', 'test'], ROOT)
    assert '.venv/bin/python tools/demo.py' in printed
    fast = "-m 'not slow and not training and not exhaustive'"
    assert f'.venv/bin/python -m pytest -n 2 --dist loadfile {fast}' in printed


@pytest.mark.slow
@pytest.mark.parametrize('command', [c for c in COMMANDS if c not in ELSEWHERE])
def test_command_works(command: str, checkout: Path) -> None:
    words = shlex.split(command)
    if words == ['make', 'demo']:
        words = [sys.executable, 'tools/demo.py', '--epochs', '1', '--num-train', '16']
        words += ['--num-val', '8', '--data', 'data/digits', '--work-dir', 'work_dirs/demo']
    if words[0] == 'python':
        words[0] = sys.executable
    if re.search(r'(train|test)\.(py|sh)$', words[1]):
        # One process for one epoch: the checkpoint that it leaves is then tested.
        words = [re.sub(r'epoch_\d+', 'epoch_1', '1' if word == '8' else word) for word in words]
        words += ['--cfg-options', *small_options(Path('data/coco'))]
        if 'deformable' in command:
            words += ['model.neck.in_channels=[128,256,512]']
    printed = run(words, checkout, timeout=600)
    if words[1] == 'tools/demo.py':
        assert 'COCO AP' in printed
        assert (checkout / 'work_dirs/demo/grid.png').stat().st_size > 10_000
        assert (checkout / 'work_dirs/demo/report.html').stat().st_size > 100_000
    if words[1] == 'tools/predict.py':
        number = len(list((checkout / 'data/coco/val2017').iterdir())) if 'coco' in words[2] else 1
        assert f'objects in {number} images' in printed
        assert (checkout / 'found/predictions.json').stat().st_size > 100


@pytest.mark.slow
@pytest.mark.parametrize('beginning', ['from mmdet.apis', 'from mmdetr_plugin import load'])
def test_python_example_works(beginning: str, checkout: Path) -> None:
    (example,) = re.findall(rf'```python\n({beginning}.*?)```', README, re.S)
    if 'inferencer' in example:
        example += (
            "\nassert len(inferencer('image.jpg')['predictions'][0]['scores']) == len(boxes) == 100"
        )
    else:
        example += "\nfrom pathlib import Path\nassert Path('found.jpg').stat().st_size > 1000"
    # In a process of its own: nothing but the example's imports has registered anything.
    run([sys.executable, '-W', 'ignore', '-c', example], checkout)
