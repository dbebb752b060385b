"""mmdet's own tools with our configs: they work, or say what to do."""

from __future__ import annotations

import sys
from pathlib import Path

import mmdet
import pytest
import tiny
from cli import ROOT, TOOLS, run
from mmdet.datasets.utils import get_loading_pipeline

from mmdetr_plugin.datasets import make_digits

MMDET = Path(mmdet.__file__).parent / '.mim' / 'tools'
CONFIG = ROOT / 'configs/finetune/rt_detr_r18_12e.py'
SMALL = (
    *('model.backbone.init_cfg=None', 'model.encoder.num_layers=1', 'model.decoder.num_layers=1'),
    *('model.queries.num_queries=20', 'train_cfg.max_epochs=1', 'default_hooks.logger.interval=1'),
    *('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False'),
    *('val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False'),
    *('test_dataloader.num_workers=0', 'test_dataloader.persistent_workers=False'),
    'train_dataloader.dataset.pipeline.8.scale=(128,128)',
    *(f'{split}_dataloader.dataset.pipeline.2.scale=(128,128)' for split in ('val', 'test')),
)
"""Options that make the config one short epoch."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of one's own."""
    made = tmp_path_factory.mktemp('mmdet_tools')
    make_digits(made / 'mine', num_train=4, num_val=2, size=64)
    return made


def mmdet_tool(name: str, folder: Path, *words: object, code: int = 0) -> str:
    command = [sys.executable, '-W', 'ignore', MMDET / name, *words]
    return run(command, folder, code, timeout=600)


DETECTION = ('detr_r50', 'dino_r50', 'rt_detr_r18', 'deim_d_fine_s', 'rf_detr_nano', 'digits_dino')


@pytest.mark.parametrize('name', [*DETECTION, *(n for n in tiny.FINETUNE if '12e' in n)])
def test_analysis_finds_the_loading_of_our_pipelines(name: str) -> None:
    """mmdet compares the classes of the steps by identity."""
    assert len(get_loading_pipeline(tiny.load(name).train_dataloader.dataset.pipeline)) == 2


@pytest.mark.slow
def test_browse_dataset_shows_data_of_ones_own(folder: Path) -> None:
    words = ['analysis_tools/browse_dataset.py', folder, CONFIG, '--not-show']
    text = mmdet_tool(*words, code=1)
    assert 'no such file; name the folder in each data set (train_dataloader.dataset.data_' in text
    words += ['--output-dir', 'drawn', '--cfg-options', 'train_dataloader.dataset.data_root=mine/']
    mmdet_tool(*words)
    assert len(list((folder / 'drawn').glob('*.jpg'))) == 4


@pytest.mark.slow
def test_training_by_mmdet(folder: Path) -> None:
    options = ['--work-dir', 'by_mmdet', '--cfg-options', *SMALL]
    text = mmdet_tool('train.py', folder, CONFIG, *options, code=1)
    assert 'num_classes must be a positive integer, got None' in text
    options += ['model.num_classes=10', 'val_evaluator.ann_file=mine/annotations/val.json']
    options += [f'{split}_dataloader.dataset.data_root=mine/' for split in ('train', 'val', 'test')]
    options += ['test_evaluator.ann_file=mine/annotations/val.json']
    assert 'coco/bbox_mAP' in mmdet_tool('train.py', folder, CONFIG, *options)


@pytest.mark.slow
def test_analyze_results_draws_the_best_and_the_worst(folder: Path) -> None:
    options = ['--cfg-options', *SMALL, 'data_root=mine/']
    run([sys.executable, TOOLS / 'train.py', CONFIG, '--work-dir', 'work', *options], folder)
    config = 'work/rt_detr_r18_12e.py'  # with classes and folders
    words = [sys.executable, TOOLS / 'test.py', config, 'work/epoch_1.pth', '--out', 'found.pkl']
    run(words, folder)
    mmdet_tool(
        'analysis_tools/analyze_results.py', folder, config, 'found.pkl', 'shown', '--topk', 1
    )
    assert {path.parent.name for path in (folder / 'shown').glob('*/*.jpg')} == {'good', 'bad'}
