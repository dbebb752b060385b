"""What the log says: the effective batch, what is trained, and nothing of our own in its lines."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import tiny_run
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from mmdetr_plugin.engine.hooks import EffectiveBatchHook, ParameterTableHook
from mmdetr_plugin.engine.hooks.effective_batch import describe
from mmdetr_plugin.engine.hooks.parameter_table import parameter_table
from mmdetr_plugin.registry import HOOKS, MODELS


def test_batch_that_fits_needs_nothing() -> None:
    text = describe(images=4, gpus=1, steps=2, tuned=8, rate=5e-5)
    assert text == (
        'effective batch = 4 per GPU x 1 GPUs x 2 accumulated = 8, the config was tuned for 8'
    )


@pytest.mark.parametrize(
    ('images', 'gpus', 'steps', 'remedies'),
    [
        (2, 1, 1, 'optim_wrapper.accumulative_counts=16 or optim_wrapper.optimizer.lr=5e-05'),
        (2, 2, 2, 'optim_wrapper.accumulative_counts=8 or optim_wrapper.optimizer.lr=0.0001'),
        (16, 8, 1, 'optim_wrapper.optimizer.lr=0.0004'),
        (4, 8, 4, 'optim_wrapper.accumulative_counts=1 or optim_wrapper.optimizer.lr=0.0004'),
    ],
)
def test_other_batches_are_told_what_to_change(
    images: int, gpus: int, steps: int, remedies: str
) -> None:
    """A quarter of the batch wants half of the rate, not a quarter."""
    text = describe(images, gpus, steps, tuned=32, rate=2e-4)
    assert text.endswith(f'= {images * gpus * steps}, the config was tuned for 32; set {remedies}')


def test_config_that_does_not_say_its_batch() -> None:
    assert 'the config does not state' in describe(2, 1, 1, None, 1e-4)


def runner_of(model: nn.Module, wrapper: dict, **auto_scale_lr: object) -> SimpleNamespace:
    """As much of a runner as the hooks look at. The loader has a batch sampler, as mmdet's COCO."""
    images = list(range(8))
    sampler = BatchSampler(SequentialSampler(images), batch_size=2, drop_last=False)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        optim_wrapper = build_optim_wrapper(model, wrapper)
    return SimpleNamespace(
        model=model,
        optim_wrapper=optim_wrapper,
        train_dataloader=DataLoader(images, batch_sampler=sampler),
        cfg=Config({'auto_scale_lr': auto_scale_lr}),
        logger=logging.getLogger('tested'),
    )


@pytest.fixture
def runner() -> SimpleNamespace:
    cfg = tiny.load('finetune/deformable_detr_two_stage_r50_12e')
    model = MODELS.build(tiny.shrink(cfg.model, frozen_parts=['encoder']))
    return runner_of(model, cfg.optim_wrapper, base_batch_size=8)


@pytest.mark.parametrize(('enable', 'more'), [(False, ''), (True, 'has scaled the rate in prop')])
def test_effective_batch_is_logged(
    runner: SimpleNamespace, caplog: pytest.LogCaptureFixture, enable: bool, more: str
) -> None:
    runner.cfg.auto_scale_lr.enable = enable
    with caplog.at_level(logging.INFO, 'tested'):
        HOOKS.build({'type': 'mmdetr_plugin.EffectiveBatchHook'}).before_train(runner)
    assert isinstance(HOOKS.get('EffectiveBatchHook')(), EffectiveBatchHook)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert '2 per GPU x 1 GPUs x 2 accumulated = 4, the config was tuned for 8; set' in record.msg
    assert more in record.msg


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith('|')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_table_counts_every_parameter_once(runner: SimpleNamespace) -> None:
    model, groups = runner.model, runner.optim_wrapper.optimizer.param_groups
    _, *parts, total = rows(parameter_table(model, groups))
    count = sum(p.numel() for p in model.parameters())
    assert sum(int(row[1].replace(',', '')) for row in parts) == count
    trained = sum(p.numel() for group in groups for p in group['params'])
    assert total[1] == f'{count:,}'
    assert total[4] == f'{trained:,} trained'


def test_table_tells_rates_apart(runner: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    for group in runner.optim_wrapper.optimizer.param_groups:
        group['initial_lr'], group['lr'] = group['lr'], group['lr'] / 100  # in the warm-up
    with caplog.at_level(logging.INFO, 'tested'):
        ParameterTableHook().before_train(runner)
    cells = {(row[0], *row[2:5]) for row in rows(caplog.text)}
    assert ('backbone', '5e-06', '0.0001', 'trained') in cells
    assert ('backbone', '', '', 'frozen') in cells, 'norms, the stem and the first stage'
    assert ('encoder', '', '', 'frozen') in cells
    assert {row for row in cells if row[0] == 'encoder'} == {('encoder', '', '', 'frozen')}
    assert ('decoder', '5e-05', '0.0001', 'trained') in cells
    assert ('decoder', '5e-06', '0.0001', 'trained') in cells
    first = {(row[0], row[2]): row[5] for row in rows(caplog.text)[1:]}
    assert 'sampling_offsets' in first['decoder', '5e-06']


def test_every_config_has_both_hooks() -> None:
    types = {hook['type'] for hook in tiny.load('detr_r50').custom_hooks}
    assert {'mmdetr_plugin.EffectiveBatchHook', 'mmdetr_plugin.ParameterTableHook'} <= types


def test_lines_of_the_validation_have_metrics_only(tmp_path: Path) -> None:
    """MMEngine writes every entry of the message hub that begins with `val` into them."""
    cfg = tiny_run.config(tiny_run.make_data(tmp_path / 'data'), tmp_path / 'work', epochs=1)
    runner = tiny_run.train(cfg, 'lines of the validation')
    _, line = runner.log_processor.get_log_after_epoch(runner, 1, 'val', with_non_scalar=True)
    assert 'mean_score' in line and 'validated' not in line
    hub = runner.message_hub
    assert not [key for key in hub.runtime_info if key.startswith(('train', 'val', 'test'))]
    assert hub.get_info('last_validated') == 1


def test_checkpoints_with_the_former_key_are_resumed(tmp_path: Path) -> None:
    import torch

    data, work = tiny_run.make_data(tmp_path / 'data'), tmp_path / 'work'
    tiny_run.train(tiny_run.config(data, work, epochs=1), 'former key, 1')
    checkpoint = torch.load(work / 'epoch_1.pth', weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    info['validated'] = info.pop('last_validated')
    torch.save(checkpoint, work / 'epoch_1.pth')
    cfg = tiny_run.config(data, work, epochs=2)
    cfg.update(resume=True, load_from=str(work / 'epoch_1.pth'))
    runner = tiny_run.train(cfg, 'former key, 2')
    assert 'validated' not in runner.message_hub.runtime_info
    assert runner.message_hub.get_info('last_validated') == 2
