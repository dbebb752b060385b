"""Faults of a run: numbers that are not finite, foreign or copied work dirs, hostile checkpoints."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import pytest
import tiny
import tiny_run
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import nn

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import read_checkpoint
from mmdetr_plugin.checkpoints.stated_config import differences, stated_config
from mmdetr_plugin.engine.best_score import mean_score
from mmdetr_plugin.engine.hooks.checkpoint import not_finite
from mmdetr_plugin.engine.lock import lock, unlock
from mmdetr_plugin.engine.optim_wrapper import FiniteOptimWrapper


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_data(tmp_path_factory.mktemp('digits') / 'digits')


def spoil(steps: range) -> tiny_run.BeforeStep:
    """Puts a NaN into a picture in these steps."""

    def act(runner: Runner, batch: dict) -> None:
        if runner.iter in steps:
            batch['inputs'] = [image.float() for image in batch['inputs']]
            batch['inputs'][0][0, 3, 3] = float('nan')

    return tiny_run.BeforeStep(act)


def test_one_bad_pixel_costs_one_step(data: Path, tmp_path: Path) -> None:
    cfg = tiny_run.config(data, tmp_path, epochs=2)
    runner = tiny_run.train(cfg, 'one bad pixel', spoil(range(1, 2)))
    assert runner.message_hub.get_info('skipped_steps') == 1
    assert runner.message_hub.get_info('skipped_in_a_row') == 0
    for file in tmp_path.glob('*.pth'):
        saved = read_checkpoint(file)
        for part in ('state_dict', 'ema_state_dict'):
            assert all(value.isfinite().all() for value in saved.get(part, {}).values())


def test_steps_that_are_all_bad_end_the_run(data: Path, tmp_path: Path) -> None:
    cfg = tiny_run.config(data, tmp_path, epochs=4)
    for hook in cfg.custom_hooks:
        if hook['type'].endswith('NonFiniteHook'):
            hook['most'] = 2
    text = r'at most 2 steps in a row.*loss_\w+.* is not finite; images: .*jpg.*3 steps skipped'
    with pytest.raises(FloatingPointError, match=text):
        tiny_run.train(cfg, 'all bad', spoil(range(100)))
    saved = read_checkpoint(tmp_path / 'epoch_1.pth')
    assert all(value.isfinite().all() for value in saved['state_dict'].values())


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(x)).mean()


@pytest.mark.parametrize('steps', [1, 2])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('clip', [None, {'max_norm': 0.1}])
def test_a_skipped_step_changes_nothing(steps: int, value: float, clip: dict | None) -> None:
    """Neither weights nor the statistics of norm layers; then training continues."""
    torch.manual_seed(0)
    net = Net()
    wrapper = FiniteOptimWrapper(
        torch.optim.Adam(net.parameters()), accumulative_counts=steps, clip_grad=clip
    )

    def step(spoil: float) -> None:
        images = torch.randn(4, 3)
        images[0, 0] = spoil if spoil else images[0, 0]
        with wrapper.optim_context(net):
            loss = net(images)
        wrapper.update_params(loss)

    for _ in range(steps):
        step(0)
    before = {name: x.clone() for name, x in net.state_dict().items() if x.is_floating_point()}
    for i in range(steps):
        step(value if i == 0 else 0)
    assert wrapper.skipped
    for name, tensor in before.items():
        assert torch.equal(net.state_dict()[name], tensor), name
    for _ in range(steps):
        step(0)
    assert not wrapper.skipped
    assert not torch.equal(net.linear.weight, before['linear.weight'])
    assert not_finite(net) == []


def test_good_steps_are_those_of_mmengine() -> None:
    weights = []
    for kind in (OptimWrapper, FiniteOptimWrapper):
        torch.manual_seed(0)
        net = Net()
        wrapper = kind(torch.optim.Adam(net.parameters()), clip_grad={'max_norm': 0.1})
        for _ in range(3):
            with wrapper.optim_context(net):
                loss = net(torch.randn(4, 3))
            wrapper.update_params(loss)
        weights.append(net.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_loss_that_is_not_finite_is_seen_where_its_gradient_is_not() -> None:
    net = nn.Linear(2, 1)
    wrapper = FiniteOptimWrapper(torch.optim.SGD(net.parameters(), lr=1.0))
    with wrapper.optim_context(net):
        loss = net(torch.ones(2)).sum() + float('inf')  # the gradient is 1
    wrapper.update_params(loss)
    assert wrapper.skipped


def test_predictions_that_are_not_finite_are_an_error() -> None:
    model = tiny.build('detr_r50')
    images, samples = tiny.batch()
    for sample, name in zip(samples, ('16', '17'), strict=True):
        sample.set_metainfo({'img_path': f'val/{name}.jpg'})
    images[1] = float('nan')
    with pytest.raises(
        FloatingPointError, match=r'NaN or infinity in 1 images, such as val/17.jpg'
    ):
        model.val_step({'inputs': images, 'data_samples': samples})


# ---- work dirs -----------------------------------------------------------------------------------


def resume(cfg: object, checkpoint: str = 'auto') -> object:
    command_line.set_resume(argparse.ArgumentParser(), cfg, checkpoint)
    return cfg


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob('*.pth'))


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('trained')
    tiny_run.train(tiny_run.config(data, folder, epochs=1), 'to resume from')
    return folder


def test_a_copied_work_dir_leaves_the_original_alone(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    before, copy = names(trained), tmp_path / 'copy'
    shutil.copytree(trained, copy)
    cfg = resume(tiny_run.config(data, copy, epochs=2))
    assert Path(cfg.load_from).parent == copy
    tiny_run.train(cfg, 'copied')
    assert names(trained) == before
    assert 'epoch_2.pth' in names(copy)


def test_no_path_and_no_code_of_a_checkpoint_is_trusted(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    """Through `--resume`: a config that runs code, a best checkpoint and kept files elsewhere."""
    run, precious, trace = tmp_path / 'run', tmp_path / 'precious', tmp_path / 'trace'
    (precious / 'epoch_1.pth').mkdir(parents=True)
    run.mkdir()
    saved = torch.load(trained / 'epoch_1.pth', weights_only=False)
    saved['meta']['config'] = f'x = __import__("os").mkdir({str(trace)!r})\n'
    saved['message_hub']['runtime_info'].update(
        best_ckpt=str(precious), best_score=-1.0, keep_ckpt_ids=['../precious/epoch_1', 1]
    )
    torch.save(saved, run / 'epoch_1.pth')
    read_checkpoint(run / 'epoch_1.pth')
    cfg = resume(tiny_run.config(data, run, epochs=2), str(run / 'epoch_1.pth'))
    tiny_run.train(cfg, 'hostile')
    assert not trace.exists()
    assert (precious / 'epoch_1.pth').is_dir()
    assert 'epoch_2.pth' in names(run)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """Another process is refused while this one holds the folder, and not once it is dead."""

    def other() -> int:
        process = os.fork()
        if process == 0:
            try:
                lock(tmp_path)
            except RuntimeError as error:
                os._exit(1 if f'process {os.getppid()} on ' in str(error) else 2)
            os._exit(0)  # without unlocking, as a killed one
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    assert other() == 0
    lock(tmp_path)
    lock(tmp_path)  # a run that continues in this process
    assert other() == 1
    unlock(tmp_path)
    assert not (tmp_path / '.lock').exists()
    assert other() == 0


def test_another_setup_is_refused(data: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / 'run')
    cfg = resume(tiny_run.config(data, tmp_path / 'run', epochs=2, workers=1))
    with pytest.raises(ValueError, match='workers was 0, now 1; restore it'):
        tiny_run.train(cfg, 'other workers')
    cfg = resume(tiny_run.config(data, tmp_path / 'run', epochs=2))
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'EMAHook']
    with pytest.raises(ValueError, match='EMAHook is gone'):
        tiny_run.train(cfg, 'no averages')
    cfg = resume(tiny_run.config(data, tmp_path / 'run', epochs=2))
    cfg.optim_wrapper.optimizer = {'type': 'SGD', 'lr': 0.1}
    with pytest.raises(ValueError, match=r"optimizer.type: 'AdamW' in the checkpoint, 'SGD' here"):
        tiny_run.train(cfg, 'other optimizer')


def test_accumulation_across_epochs(data: Path, tmp_path: Path) -> None:
    """Two steps an epoch, three accumulated: gradients are pending where the run was cut."""

    class Interrupt(Hook):
        def before_train_epoch(self, runner: Runner) -> None:
            if runner.epoch == 1:
                raise KeyboardInterrupt

    def config(name: str) -> object:
        cfg = tiny_run.config(data, tmp_path / name, epochs=2)
        cfg.optim_wrapper.accumulative_counts = 3
        return cfg

    tiny_run.train(config('whole'), 'accumulated whole')
    with pytest.raises(KeyboardInterrupt):
        tiny_run.train(config('cut'), 'accumulated cut', Interrupt())
    assert 'gradients' in read_checkpoint(tmp_path / 'cut/epoch_1.pth')
    tiny_run.train(resume(config('cut')), 'accumulated resumed')
    pair = (read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in ('whole', 'cut'))
    assert list(tiny_run.different(*pair)) == []


# ---- scores and configs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('metrics', 'name', 'value'),
    [
        ({'coco/ball_precision': 0.9, 'coco/bbox_mAP': 0.1}, 'coco/bbox_mAP', 0.1),
        ({'coco/bbox_mAP': 0.1, 'coco/segm_mAP': 0.3}, 'coco/bbox_mAP', 0.1),
        ({'a/coco/bbox_mAP': 0.1, 'b/coco/bbox_mAP': 0.3}, 'mean/bbox_mAP', 0.2),
        ({'PQ/ball': 9.0, 'coco_panoptic/PQ': 2.0}, 'coco_panoptic/PQ', 2.0),
        ({'ball_precision': 0.9, 'score': 0.2}, 'score', 0.2),
        ({}, None, float('nan')),
    ],
)
def test_the_best_is_that_of_the_mean(metrics: dict, name: str | None, value: float) -> None:
    got, score = mean_score(metrics, ('ball',))
    assert got == name
    assert score == pytest.approx(value, nan_ok=True)


def test_a_config_is_read_as_data() -> None:
    text = "a = dict(b=[1, -2.5, 'c'], d={'e': (None, True)})\nf = open('x')\ng = 1\n"
    assert stated_config(text) == {'a': {'b': [1, -2.5, 'c'], 'd': {'e': [None, True]}}, 'g': 1}
    assert stated_config('(' * 10_000) == stated_config(None) == stated_config('x = [') == {}
    found = [*differences({'a': {'b': 1}, 'c': [1]}, {'a': {'b': 2}, 'c': [1]}, 'model')]
    assert found == ['model.a.b: 1 in the checkpoint, 2 here']
