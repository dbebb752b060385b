"""DEIM's augmentation and the second stage of D-FINE's training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.hooks import EMAHook
from mmengine.logging import MessageHub
from torch import nn

from mmdetr_plugin.datasets import BatchMixup, QuadMosaic
from mmdetr_plugin.engine.hooks import RestartFromBestHook
from mmdetr_plugin.engine.hooks.checkpoint import VALIDATED


def picture(height: int, width: int, value: int) -> dict:
    """A picture of one colour with one object, whose class is the colour."""
    box = torch.tensor([[0.0, 0.0, width / 2, height / 2]])
    return {
        'img': np.full((height, width, 3), value, np.uint8),
        'img_shape': (height, width),
        'gt_bboxes': HorizontalBoxes(box),
        'gt_bboxes_labels': np.array([value]),
        'gt_ignore_flags': np.array([False]),
    }


def test_boxes_of_a_mosaic_lie_on_their_pictures() -> None:
    mosaic = QuadMosaic(side=20, kept=3)
    sizes = [(40, 60), (80, 40), (50, 50), (40, 90), (64, 48)]
    for number, size in enumerate(sizes, 1):
        made = mosaic(picture(*size, number))
    assert len(mosaic.latest) == 3
    assert made['img'].shape[:2] == made['img_shape']
    labels = made['gt_bboxes_labels']
    assert len(labels) == len(made['gt_bboxes']) == len(made['gt_ignore_flags']) == 4
    assert labels[0] == len(sizes)  # the picture itself is in the upper left quarter
    for box, label in zip(made['gt_bboxes'].tensor.int().tolist(), labels):
        left, top, right, bottom = box
        assert (made['img'][top:bottom, left:right] == label).all()
        assert (bottom - top, right - left) != (0, 0)
    height, width = made['img_shape']
    corners = made['gt_bboxes'].tensor[:, :2].tolist()
    assert corners == [[0, 0], [width / 2, 0], [0, height / 2], [width / 2, height / 2]]


def test_mixtures_have_the_objects_of_both() -> None:
    images, samples = tiny.batch((3, 1), (tiny.CANVAS, tiny.CANVAS))
    mixed, joined = BatchMixup(prob=1.0, ratio=(0.5, 0.5))(images.clone(), samples)
    torch.testing.assert_close(mixed[0], (images[0] + images[1]) / 2)
    assert [len(sample.gt_instances) for sample in joined] == [4, 4]
    assert torch.equal(joined[0].gt_instances.bboxes[3:], joined[1].gt_instances.bboxes[:1])
    images, samples = tiny.batch((3, 1), (tiny.CANVAS, tiny.CANVAS))
    same, alone = BatchMixup(prob=0.0)(images, samples)
    assert same is images and [len(sample.gt_instances) for sample in alone] == [3, 1]


@pytest.mark.parametrize('options', [{'side': 0}, {'kept': 0}])
def test_unfit_mosaics_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match='side and kept'):
        QuadMosaic(**options)


def test_unfit_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match='ratio'):
        BatchMixup(ratio=(0.6, 0.4))


# ---- the second stage -----------------------------------------------------------------------------


def fake_runner(folder: Path, hooks: list) -> SimpleNamespace:
    """As much of a runner as the hooks read."""
    hub = MessageHub(f'restart {folder}')
    logger = SimpleNamespace(info=lambda text: None, warning=lambda text: None)
    model = nn.Linear(1, 1, bias=False)
    return SimpleNamespace(model=model, hooks=hooks, message_hub=hub, logger=logger, epoch=0)


def test_second_stage_starts_from_the_best_and_again_after_a_worse_epoch(tmp_path: Path) -> None:
    average = EMAHook(ema_type='mmdet.ExpMomentumEMA', momentum=0.5, gamma=2000)
    hook = RestartFromBestHook(begin=2, momentum=0.25, growth=0.125)
    runner = fake_runner(tmp_path, [average, hook])
    average.before_run(runner)
    hook.before_train(runner)
    best = tmp_path / 'best.pth'
    weights = {'ema_state_dict': {'module.weight': torch.tensor([[3.0]]), 'steps': torch.tensor(5)}}
    torch.save({'state_dict': {'weight': torch.tensor([[7.0]])}, **weights}, best)

    def epoch(number: int, path: Path | None) -> tuple[float, float, float]:
        """Weight, average and momentum after an epoch begins; its best checkpoint so far."""
        runner.epoch = number
        runner.message_hub.update_info(VALIDATED, number)
        if path is not None:
            runner.message_hub.update_info('best_ckpt', str(path))
        with torch.no_grad():
            runner.model.weight.fill_(1.0)
        hook.before_train_epoch(runner)
        averaged = average.ema_model
        return runner.model.weight.item(), averaged.module.weight.item(), averaged.momentum

    assert epoch(1, best)[0] == 1.0
    assert epoch(2, None) == (3.0, 7.0, 0.25)
    better = tmp_path / 'better.pth'
    better.write_bytes(best.read_bytes())
    assert epoch(3, better) == (1.0, 7.0, 0.25)  # the epoch before brought a better one
    assert epoch(4, None) == (3.0, 7.0, 0.375)
    resumed = RestartFromBestHook(begin=2)
    average.ema_model.momentum = 0.5
    resumed.before_train(runner)
    assert average.ema_model.momentum == 0.375


def test_second_stage_needs_an_average(tmp_path: Path) -> None:
    hook = RestartFromBestHook(begin=2)
    with pytest.raises(ValueError, match='EMAHook'):
        hook.before_train(fake_runner(tmp_path, [hook]))
