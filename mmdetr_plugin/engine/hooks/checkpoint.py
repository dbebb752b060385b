"""Checkpoints that stay complete when the process is killed at any moment."""

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
"""Key in the message hub: the last epoch (or step) whose validation has ended."""


@register_backend(BACKEND, force=True)
class WholeFiles(LocalBackend):
    """Writes local files under a temporary name and renames them when they are complete."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        with written_whole(filepath) as file:
            file.write(obj)


class Removals:
    """A storage backend that removes files only when `finish` is called."""

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
            if self.backend.isdir(path):  # DeepSpeed saves folders
                self.backend.rmtree(path)
            elif self.backend.isfile(path):
                self.backend.remove(path)


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, made safe for runs that may be killed.

    A file is written under a temporary name and renamed; the old one is removed when the new one is
    complete. The last checkpoint includes the results of its validation (metrics, score and path of
    the best checkpoint). If a run is killed before the validation ends, the resumed run validates
    first. A run that was killed and resumed leaves the same files as an uninterrupted one.

    The arguments are those of `mmengine.hooks.CheckpointHook`.
    """

    backend_args: dict | None
    file_backend: Any

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
            runner.logger.warning(
                f'The validation after {place} was interrupted; it is repeated now.'
            )
            self.saved_step = self._step(runner)
            runner.val_loop.run()

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.training = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.training:  # the user called `runner.val()`
            return
        runner.message_hub.update_info(VALIDATED, _validation(runner)[0])
        before, self.saved_step = self.saved_step, None
        super().after_val_epoch(runner, metrics)
        step = self._step(runner)
        if before == step and self.saved_step is None:  # not the best, so super() did not save it
            meta = {'epoch': runner.epoch, 'iter': runner.iter}
            self._save_checkpoint_with_step(runner, step, meta)
        self.file_backend.finish()

    def _step(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Save, point `last_checkpoint` to the new file, remove the oldest; in this order."""
        self.file_backend.finish()  # removes a previous best checkpoint: the new one is complete
        kept: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = [*self.keep_ckpt_ids, step]
            self.keep_ckpt_ids.append(step)
            # The list includes the oldest, which is removed below. If the run is killed before that,
            # the resumed run removes it.
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
        """Remove the incomplete files of a killed process."""
        for folder in {Path(self.out_dir), Path(runner.work_dir)}:
            for start in (self.filename_tmpl.split('{')[0], 'best_', 'last_checkpoint'):
                for file in folder.glob(f'.{start}*{ASIDE}'):
                    file.unlink(missing_ok=True)


def _validation(runner: Runner) -> tuple[int, bool]:
    """The current epoch (or step, if the loop counts steps), and whether a validation is due."""
    loop = runner.train_loop
    epochs = isinstance(loop, EpochBasedTrainLoop)
    place, last = (loop.epoch, loop.max_epochs) if epochs else (loop.iter, loop.max_iters)
    due = place % loop.val_interval == 0 or place == last
    return place, runner.val_loop is not None and place >= max(loop.val_begin, 1) and due
