"""An interrupted run that goes on: as if nothing had happened, and always from a whole file."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny_run
import torch
from cli import ROOT, TOOLS, load, run, run_python
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import read_checkpoint, write_checkpoint
from mmdetr_plugin.checkpoints.resume import check_resumable, latest_checkpoint


class Interrupt(Hook):
    """Ends the run as its third epoch starts."""

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.epoch == 2:
            raise KeyboardInterrupt


def resumed(cfg: Config) -> Config:
    command_line.set_resume(argparse.ArgumentParser(), cfg, 'auto')
    return cfg


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_data(tmp_path_factory.mktemp('digits') / 'digits')


@pytest.fixture(scope='module')
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Work dirs of a run of four epochs, of one interrupted after two, and that one resumed.

    The data come from two workers that live as long as the run. The first epoch is the best.
    """
    folders = {name: tmp_path_factory.mktemp(name) for name in ('whole', 'resumed')}

    def config(name: str) -> Config:
        cfg = tiny_run.config(data, folders[name], workers=2)
        cfg.default_hooks.checkpoint.rule = 'less'
        return cfg

    tiny_run.train(config('whole'), 'whole')
    with pytest.raises(KeyboardInterrupt):
        tiny_run.train(config('resumed'), 'interrupted', Interrupt())
    tiny_run.train(resumed(config('resumed')), 'resumed')
    return folders


def test_four_epochs_equal_two_and_two_more(runs: dict[str, Path]) -> None:
    ours, theirs = (read_checkpoint(runs[name] / 'epoch_4.pth') for name in ('resumed', 'whole'))
    assert {'state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers'} <= theirs.keys()
    assert theirs['meta']['epoch'] == 4
    assert len(theirs['message_hub']['log_scalars']['train/loss'].data[0]) == 8
    assert list(tiny_run.different(ours, theirs)) == []


def test_weights_and_averages_are_in_the_file(runs: dict[str, Path]) -> None:
    """Averages where weights are loaded from, weights where a run goes on from."""
    saved = read_checkpoint(runs['whole'] / 'epoch_4.pth')
    key = 'head.class_branches.0.weight'
    assert not torch.equal(saved['state_dict'][key], saved['ema_state_dict'][f'module.{key}'])


def test_weights_alone(runs: dict[str, Path], data: Path, tmp_path: Path) -> None:
    """A checkpoint of a run is converted to one of its averaged weights."""
    file, config = tmp_path / 'weights.pth', tmp_path / 'config.py'
    tiny_run.config(data, tmp_path).dump(config)
    load(TOOLS / 'convert_checkpoint.py').main(
        [str(runs['whole'] / 'epoch_4.pth'), str(file), '--config', str(config)]
    )
    weights, saved = read_checkpoint(file), read_checkpoint(runs['whole'] / 'epoch_4.pth')
    assert weights.keys() == {'state_dict', 'meta'}
    assert not list(tiny_run.different(weights['state_dict'], saved['state_dict']))
    assert file.stat().st_size < (runs['whole'] / 'epoch_4.pth').stat().st_size / 3


def test_the_best_score_survives(runs: dict[str, Path]) -> None:
    """A later, worse one takes neither its place in the records nor on the disk."""
    names = []
    for folder in runs.values():
        hub = read_checkpoint(folder / 'epoch_4.pth')['message_hub']
        scores = hub['log_scalars']['val/mean_score'].data[0]
        assert hub['runtime_info']['best_score'] == scores[0] == scores.min() < scores[1:].min()
        assert Path(hub['runtime_info']['best_ckpt']).parent == folder
        names.append({file.name for file in folder.glob('*.pth')})
    best = 'best_mean_score_epoch_1.pth'
    assert names[0] == names[1] == {best, 'epoch_2.pth', 'epoch_3.pth', 'epoch_4.pth'}
    assert (
        list(tiny_run.different(*(read_checkpoint(folder / best) for folder in runs.values())))
        == []
    )


def test_random_numbers_of_epochs_differ(runs: dict[str, Path]) -> None:
    """Each epoch has its own: what the workers drew for a picture is not what they drew before."""
    losses = read_checkpoint(runs['whole'] / 'epoch_4.pth')['message_hub']['log_scalars']
    assert len(set(losses['train/d0.loss_bbox'].data[0])) == 8


@pytest.mark.parametrize('killed', ['before', 'after'])
def test_a_validation_that_was_cut_short_is_done_on_resuming(
    killed: str, data: Path, tmp_path: Path
) -> None:
    """Killed before the best one is written, or after that but before the last one knows of it."""

    class Kill(Hook):
        priority = 'LOWEST' if killed == 'after' else 'HIGHEST'

        def before_val_epoch(self, runner: Runner) -> None:
            if runner.epoch == 2 and killed == 'before':
                raise KeyboardInterrupt

        def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
            if runner.epoch == 2 and 'optimizer' in checkpoint and killed == 'after':
                raise KeyboardInterrupt

    cfg = tiny_run.config(data, tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        tiny_run.train(cfg, f'{killed} cut', Kill())
    assert (tmp_path / 'best_mean_score_epoch_2.pth').is_file() == (killed == 'after')
    runner = tiny_run.train(resumed(tiny_run.config(data, tmp_path, epochs=2)), f'{killed} whole')
    assert len(runner.message_hub.get_scalar('val/mean_score').data[0]) == 2
    assert {file.name for file in tmp_path.glob('best_*')} == {'best_mean_score_epoch_2.pth'}
    hub = read_checkpoint(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']
    assert Path(hub['best_ckpt']).name == 'best_mean_score_epoch_2.pth'


SAVED = {'meta': {'epoch': 1}, 'message_hub': {}, 'state_dict': {}, 'optimizer': {}}


def run_folder(folder: Path, *epochs: int, last: str = '') -> Path:
    folder.mkdir(exist_ok=True)
    for epoch in epochs:
        write_checkpoint(SAVED, folder / f'epoch_{epoch}.pth')
    if last:
        (folder / 'last_checkpoint').write_text(last)
    return folder


def cut_short(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_the_latest_checkpoint(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / 'gone') == (None, [])
    folder = run_folder(tmp_path / 'new')
    assert latest_checkpoint(folder) == (None, [])
    # Killed before the first `last_checkpoint` was written.
    run_folder(folder, 9, 10)
    assert latest_checkpoint(folder) == (folder / 'epoch_10.pth', [])
    # What it names goes before a newer one: a run that was taken back.
    run_folder(folder, last=str(folder / 'epoch_9.pth'))
    assert latest_checkpoint(folder) == (folder / 'epoch_9.pth', [])
    copied = Path(shutil.copytree(folder, tmp_path / 'copied'))
    assert latest_checkpoint(copied) == (copied / 'epoch_9.pth', [])
    moved = folder.rename(tmp_path / 'moved')
    assert latest_checkpoint(moved) == (moved / 'epoch_9.pth', [])
    # Bare weights in the folder, and the best ones, cannot be resumed from.
    write_checkpoint({'state_dict': {}}, folder / 'detr_r50.pth')
    write_checkpoint({'state_dict': {}}, folder / 'best_coco_bbox_mAP_epoch_3.pth')
    assert latest_checkpoint(folder) == (None, [])


def test_a_damaged_latest_checkpoint_is_passed_over(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / 'run', 1, 2, last='epoch_2.pth')
    cut_short(folder / 'epoch_2.pth')
    path, faults = latest_checkpoint(folder)
    assert path == folder / 'epoch_1.pth'
    assert (
        len(faults) == 1 and 'epoch_2.pth must be a checkpoint written by torch.save' in faults[0]
    )
    cut_short(folder / 'epoch_1.pth')
    with pytest.raises(ValueError, match='must hold a checkpoint to resume from, got damaged ones'):
        latest_checkpoint(folder)


def test_what_cannot_be_resumed_from_is_told(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / 'run', 1, 2)
    (folder / 'epoch_2.pth').write_text('no checkpoint')
    whole = f'; the newest undamaged one in its folder is {folder}/epoch_1.pth'
    with pytest.raises(ValueError, match='or it is no checkpoint') as error:
        check_resumable(folder / 'epoch_2.pth')
    assert str(error.value).endswith(whole)
    with pytest.raises(FileNotFoundError, match='the checkpoint must be a file, got') as error:
        check_resumable(folder / 'epoch_3.pth')
    assert str(error.value).endswith(whole)
    write_checkpoint({'state_dict': {}, 'meta': {}}, tmp_path / 'weights.pth')
    text = 'got one without message_hub and optimizer .* start from its weights, set load_from'
    with pytest.raises(ValueError, match=text):
        check_resumable(tmp_path / 'weights.pth')


def test_resuming_auto_keeps_the_weights_to_start_from(tmp_path: Path) -> None:
    """In a new work dir `--resume` starts, and with what the config says."""
    cfg = Config({'work_dir': str(tmp_path), 'load_from': 'published.pth'})
    assert not resumed(cfg).resume
    assert cfg.load_from == 'published.pth'
    run_folder(tmp_path, 3)
    assert resumed(cfg).resume
    assert cfg.load_from == str(tmp_path / 'epoch_3.pth')


def test_training_tells_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = cut_short(run_folder(tmp_path, 1) / 'epoch_1.pth')
    for given in ('auto', str(file)):
        with pytest.raises(SystemExit):
            command_line.set_resume(
                argparse.ArgumentParser(), Config({'work_dir': str(tmp_path)}), given
            )
        assert f'{file} must be a checkpoint written by torch.save' in capsys.readouterr().err


def test_testing_tells_what_is_wrong_with_a_file(data: Path, tmp_path: Path) -> None:
    file = cut_short(run_folder(tmp_path, 1) / 'epoch_1.pth')
    config = ROOT / 'configs' / 'digits_deformable_detr.py'
    root = f'test_dataloader.dataset.data_root={data}/'
    text = run_python(TOOLS / 'test.py', config, file, '--cfg-options', root, cwd=tmp_path, code=2)
    assert f'{file} must be a checkpoint written by torch.save, but cannot be read' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
@pytest.mark.parametrize('workers', [0, 2])
def test_loops_that_count_steps(workers: int, sampler: str, data: Path, tmp_path: Path) -> None:
    """Three passes over the data, of which the run is cut in the second."""

    def config(name: str) -> Config:
        cfg = tiny_run.config(data, tmp_path / name, workers=workers)
        cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=6, val_interval=3)
        cfg.param_scheduler = []
        cfg.train_dataloader.sampler.type = sampler
        cfg.default_hooks.checkpoint.update(by_epoch=False, interval=3)
        return cfg

    def cut(runner: Runner, batch: dict) -> None:
        if runner.iter == 4:
            raise KeyboardInterrupt

    tiny_run.train(config('whole'), f'steps whole {workers} {sampler}')
    with pytest.raises(KeyboardInterrupt):
        tiny_run.train(config('cut'), f'steps cut {workers} {sampler}', tiny_run.BeforeStep(cut))
    tiny_run.train(resumed(config('cut')), f'steps resumed {workers} {sampler}')
    pair = (read_checkpoint(tmp_path / name / 'iter_6.pth') for name in ('cut', 'whole'))
    assert list(tiny_run.different(*pair)) == []


@pytest.mark.slow
def test_thirty_kills(tmp_path: Path) -> None:
    """What must hold after each kill, and at the end, is in the script that does it."""
    script = ROOT / 'tests' / 'kill_runs.py'
    command = [sys.executable, '-W', 'ignore', script, tmp_path, '--kills', 30]
    text = run(command, tmp_path, timeout=900, PYTHONPATH=TOOLS)
    counts = json.loads(text.splitlines()[-1])
    assert counts['kills'] == 30
    assert counts['while writing'] >= 5
    assert counts['runs'] >= 2
