"""Checkpoints of a run that may be killed at any moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.fileio.backends import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from ...checkpoints.files import ASIDE, written_whole
from ...registry import HOOKS

BACKEND = 'mmdetr_plugin.whole_files'
VALIDATED = 'validated'
"""Entry of the message hub: the epoch (or step) whose validation the checkpoint includes."""


@register_backend(BACKEND, force=True)
class WholeFiles(LocalBackend):
    """Files of a local disk that get their names once they are whole."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with written_whole(filepath) as file:
            file.write(obj)


class Removals:
    """A storage backend whose removals wait for `finish`."""

    def __init__(self, backend: BaseStorageBackend) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.outdated.append(path)

    rmtree = remove

    def finish(self) -> None:
        while self.outdated:
            path = self.outdated.pop()
            if self.backend.isdir(path):  # as DeepSpeed saves
                self.backend.rmtree(path)
            elif self.backend.isfile(path):
                self.backend.remove(path)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's hook for runs that are killed: a checkpoint on the disk is always whole.

    Files are written aside and renamed; an old one is removed when its successor is whole. The last
    checkpoint includes its validation (metrics, score and path of the best one); a run that was
    killed before that ended validates first when it is resumed. Killed and resumed or not, a run
    leaves the same files.

    The arguments are those of `mmengine.hooks.CheckpointHook`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.training = False
        self.saved_step: int | None = None

    def before_train(self, runner: Runner) -> None:
        given = self.backend_args or self.file_client_args
        local = type(get_file_backend(self.out_dir or runner.work_dir)) is LocalBackend
        if local and not given:
            self.backend_args = {'backend': BACKEND}
        super().before_train(runner)
        self.file_backend = Removals(self.file_backend)
        self.training = True
        if local and is_main_process():
            self._clean_up(runner)
        place, due = _validation(runner)
        if due and runner.message_hub.get_info(VALIDATED) != place:
            runner.logger.warning(f'The validation after {place} had not ended; it is done now.')
            self.saved_step = self._step(runner)
            runner.val_loop.run()

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.training = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.training:  # `runner.val()` of a user
            return
        runner.message_hub.update_info(VALIDATED, _validation(runner)[0])
        before, self.saved_step = self.saved_step, None
        super().after_val_epoch(runner, metrics)
        step = self._step(runner)
        if before == step and self.saved_step is None:  # not the best one, so not saved again
            meta = {'epoch': runner.epoch, 'iter': runner.iter}
            self._save_checkpoint_with_step(runner, step, meta)
        self.file_backend.finish()

    def _step(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, point `last_checkpoint` to it, remove the oldest; in this order."""
        self.file_backend.finish()  # a previous best one: the new one is whole
        kept: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = [*self.keep_ckpt_ids, step]
            self.keep_ckpt_ids.append(step)
            # With the one that is to go: a run that is killed before that removes it on resuming.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.saved_step = step
        if not is_main_process():
            return
        with written_whole(Path(runner.work_dir) / 'last_checkpoint') as file:
            file.write(str(self.last_ckpt).encode())
        for old in kept[: -self.max_keep_ckpts]:
            self.file_backend.remove(self._path(old))
        self.file_backend.finish()

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _clean_up(self, runner: Runner) -> None:
        """Remove what a killed process was writing."""
        for folder in {Path(self.out_dir), Path(runner.work_dir)}:
            for start in (self.filename_tmpl.split('{')[0], 'best_', 'last_checkpoint'):
                for left in folder.glob(f'.{start}*{ASIDE}'):
                    left.unlink(missing_ok=True)


def _validation(runner: Runner) -> tuple[int, bool]:
    """The place in training, in what its loop counts, and whether a validation belongs there."""
    loop = runner.train_loop
    epochs = isinstance(loop, EpochBasedTrainLoop)
    place, last = (loop.epoch, loop.max_epochs) if epochs else (loop.iter, loop.max_iters)
    due = place % loop.val_interval == 0 or place == last
    return place, runner.val_loop is not None and place >= max(loop.val_begin, 1) and due
