"""What the runner loads: training starts from other classes, evaluation and resuming do not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmdetr_plugin.checkpoints import to_official

ADAPTER = {'type': 'mmdetr_plugin.CheckpointAdapter'}
EMA = {'type': 'EMAHook'}
NAMES = ('cat', 'dog', 'cow', 'hen', 'pig')
BIAS = 'head.class_branches.0.bias'
COUNTER = itertools.count()


class Images(Dataset):
    """Two images of noise with one object each."""

    def __init__(self, names: Sequence[str] | None) -> None:
        self.metainfo = {} if names is None else {'classes': tuple(names)}

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict:
        (sample,) = tiny.samples((1,), (tiny.CANVAS,), num_classes=1)
        return {'inputs': torch.zeros(3, *tiny.CANVAS, dtype=torch.uint8), 'data_samples': sample}


class Count(BaseMetric):
    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results: list) -> dict:
        return {'images': len(results)}


def make_runner(
    folder: Path, names: Sequence[str] | None, hooks: Sequence[dict] = (ADAPTER,), **options: object
) -> Runner:
    """A run on data with classes of these names; its learning rate is zero."""
    model = tiny.build('conditional_detr_r50', seed=next(COUNTER), num_classes=len(names or NAMES))
    parameters = [p for p in model.parameters() if p.requires_grad]
    loader = DataLoader(Images(names), batch_size=2, collate_fn=pseudo_collate)
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=loader,
        test_dataloader=loader,
        train_cfg={'by_epoch': True, 'max_epochs': options.pop('epochs', 1)},
        test_cfg={},
        test_evaluator=Count(),
        optim_wrapper=OptimWrapper(torch.optim.SGD(parameters, lr=0.0)),
        custom_hooks=list(hooks),
        default_scope='mmdetr_plugin',
        experiment_name=f'adapter{next(COUNTER)}',
        **options,
    )
    runner.model.init_weights = lambda: None  # stays as tiny.build made it
    return runner


def logged(runner: Runner) -> str:
    return Path(runner._log_dir, f'{runner.timestamp}.log').read_text()


@pytest.fixture(scope='module')
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a run on five classes."""
    folder = tmp_path_factory.mktemp('source')
    make_runner(folder, NAMES, [ADAPTER, EMA]).train()
    return folder / 'epoch_1.pth'


@pytest.fixture(scope='module')
def bias(file: Path) -> Tensor:
    return torch.load(file)['state_dict'][BIAS]


def test_training_starts_from_other_classes(file: Path, bias: Tensor, tmp_path: Path) -> None:
    runner = make_runner(tmp_path, ('pig', 'emu', 'cat'), [EMA, ADAPTER], load_from=str(file))
    own = runner.model.state_dict()[BIAS].clone()
    runner.train()
    expected = torch.stack((bias[4], own[1], bias[0]))
    torch.testing.assert_close(runner.model.state_dict()[BIAS], expected)
    averaged = torch.load(tmp_path / 'epoch_1.pth')['ema_state_dict'][f'module.{BIAS}']
    torch.testing.assert_close(averaged, expected)
    text = logged(runner)
    assert f'What is loaded from {file}' in text
    assert "classes: 2 of 3 found by name (the checkpoint's names)" in text
    assert 'classes without a row in the checkpoint, re-initialised: emu' in text
    assert 'do not match exactly' not in text
    assert '| total ' in text


def test_data_without_names(file: Path, bias: Tensor, tmp_path: Path) -> None:
    runner = make_runner(tmp_path, None, load_from=str(file))
    runner.train()
    torch.testing.assert_close(runner.model.state_dict()[BIAS], bias)
    assert 'classes: named on one side only, taken to be in the same order' in logged(runner)


def test_training_starts_from_a_published_file(tmp_path: Path) -> None:
    published = tiny.build('conditional_detr_r50', seed=9, num_classes=91)
    torch.save({'model': to_official(published.state_dict(), published)}, tmp_path / 'their.pth')
    names = ('toothbrush', 'unknown', 'person')
    runner = make_runner(tmp_path, names, load_from=str(tmp_path / 'their.pth'))
    runner.train()
    rows = published.state_dict()[BIAS]
    torch.testing.assert_close(runner.model.state_dict()[BIAS][[0, 2]], rows[[90, 1]])
    assert 'layout: official' in logged(runner)


def test_evaluation_refuses_other_classes(file: Path, tmp_path: Path) -> None:
    runner = make_runner(tmp_path, ('pig', 'emu', 'cat'), load_from=str(file))
    text = r'for evaluation and resuming.* 1 of 3 classes of the model \(emu\) have no row in it'
    with pytest.raises(ValueError, match=text):
        runner.test()


def test_evaluation_needs_every_part(tmp_path: Path) -> None:
    detector = tiny.build('detr_r50')
    torch.save({'state_dict': detector.state_dict()}, tmp_path / 'detector.pth')
    runner = make_runner(tmp_path, NAMES, load_from=str(tmp_path / 'detector.pth'))
    runner.model = tiny.build('detr_panoptic_r50')
    with pytest.raises(
        ValueError, match=r"must have every part of the model, got no \['mask_head'"
    ):
        runner.test()


def test_evaluation_maps_classes_in_another_order(file: Path, bias: Tensor, tmp_path: Path) -> None:
    runner = make_runner(tmp_path, NAMES[::-1], load_from=str(file))
    assert runner.test() == {'images': 2}
    torch.testing.assert_close(runner.model.state_dict()[BIAS], bias.flip(0))


def test_resuming_touches_nothing(file: Path, bias: Tensor, tmp_path: Path) -> None:
    options = {'load_from': str(file), 'resume': True, 'epochs': 2}
    runner = make_runner(tmp_path, NAMES[::-1], [ADAPTER, EMA], **options)
    runner.train()
    torch.testing.assert_close(runner.model.state_dict()[BIAS], bias)
    assert 'What is loaded' not in logged(runner)
    with pytest.raises(ValueError, match=r'3 of 3 classes of the model .* have no row in it'):
        make_runner(tmp_path, NAMES[:3], [ADAPTER], **options).train()


def test_wrong_number_of_names(file: Path, tmp_path: Path) -> None:
    runner = make_runner(tmp_path, NAMES[:3], load_from=str(file))
    runner.train_dataloader.dataset.metainfo = {'classes': NAMES}
    with pytest.raises(ValueError, match=r'model.num_classes must be .* got 3 for 5 \(cat, dog'):
        runner.train()
    checkpoint = torch.load(file)
    checkpoint['meta']['dataset_meta'] = {'classes': NAMES[:2]}
    torch.save(checkpoint, tmp_path / 'edited.pth')
    runner = make_runner(tmp_path, NAMES[:3], load_from=str(tmp_path / 'edited.pth'))
    with pytest.raises(ValueError, match=r'its 5 class rows, got 2 \(cat, dog\)'):
        runner.train()


def test_without_the_hook_the_remedy_is_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"custom_hooks=\[dict\(type='mmdetr_plugin.CheckpointAd"):
        make_runner(tmp_path, NAMES[:3], [], load_from=str(file)).train()
