"""Checkpoints that stay complete when the process is killed at any moment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.fileio.backends import BaseStorageBackend
from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import nn

from ...checkpoints.files import ASIDE, written_whole
from ...registry import HOOKS
from ..accumulation import pending_gradients, restore_gradients
from ..best_score import mean_score
from ..lock import lock, unlock
from .effective_batch import accumulated_steps

BACKEND = 'mmdetr_plugin.whole_files'
BEST = re.compile(r'best_[\w.@-]+_(?:epoch|iter)_\d+\.pth')
"""Names that the hook gives the best checkpoint."""

SETUP = 'setup'
"""Key in the message hub: what :func:`setup_of` returns."""

VALIDATED = 'last_validated'
"""Key in the message hub: the last epoch (or step) whose validation has ended.

MMEngine writes what begins with ``train``, ``val`` or ``test`` into the lines of the log.
"""

FORMERLY = 'validated'
"""The key in older checkpoints."""


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

    With ``save_best='auto'`` the best checkpoint is that of the best mean, see
    :func:`~mmdetr_plugin.engine.best_score.mean_score`. Weights that are not finite are never saved:
    the run ends. Only files in the folder of this run are removed, whatever a resumed file names. One
    run at a time may train in a work dir.

    A resumed run equals an uninterrupted one, or is refused: where accumulated gradients are pending at
    the end of an epoch, they are in the checkpoint.

    Args:
        exact: refuse to resume with another number of processes, workers or accumulated steps, or
            without the averages of the checkpoint; False: only warn.
        args, kwargs: of `mmengine.hooks.CheckpointHook`.
    """

    backend_args: dict | None
    file_backend: Any

    def __init__(self, *args: Any, exact: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exact = exact
        self.training = False
        self.gradients: dict[str, torch.Tensor] = {}
        self.saved_step: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Reserve the work dir for a training run.

        Raises:
            RuntimeError: another process trains there.
        """
        if not isinstance(runner._train_loop, BaseLoop):
            return
        fault: list[str | None] = [None]
        if is_main_process():
            try:
                lock(runner.work_dir)
            except RuntimeError as error:
                fault = [str(error)]
        broadcast_object_list(fault)
        if fault[0]:
            raise RuntimeError(fault[0])

    def after_run(self, runner: Runner) -> None:
        unlock(runner.work_dir)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the pending gradients; compare what the result depends on.

        Raises:
            ValueError: the run would not be that which wrote the checkpoint.
        """
        self.gradients = checkpoint.pop('gradients', None) or {}
        if not runner._resume:
            return
        hub = checkpoint.get('message_hub') or {}
        before = (hub.get('runtime_info') or {}).get(SETUP)
        changed = []
        if isinstance(before, dict):
            now = setup_of(runner)
            changed = [
                f'{k} was {before[k]}, now {v}' for k, v in now.items() if before.get(k, v) != v
            ]
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        if ('ema_state_dict' in checkpoint) != averaged:
            changed.append(f'EMAHook is {"new" if averaged else "gone"}')
        if changed:
            text = (
                'a resumed run must have the setup that it began with to give the same result, but '
                f'{"; ".join(changed)}; restore it, start from the weights (load_from without '
                '--resume), or accept another result: default_hooks.checkpoint.exact=False'
            )
            if self.exact:
                raise ValueError(text)
            runner.logger.warning(text)

    def before_train(self, runner: Runner) -> None:
        runner.message_hub.update_info(SETUP, setup_of(runner))
        restore_gradients(runner, self.gradients)
        self.gradients = {}
        self._distrust(runner)
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

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self.gradients and 'optimizer' in checkpoint:
            checkpoint['gradients'] = self.gradients

    def after_train(self, runner: Runner) -> None:
        super().after_train(runner)
        self.training = False

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
        if not self.training:  # the user called `runner.val()`
            return
        runner.message_hub.update_info(VALIDATED, _validation(runner)[0])
        before, self.saved_step = self.saved_step, None
        if 'auto' in (self.key_indicators if self.save_best else ()):
            meta = getattr(runner.val_dataloader.dataset, 'metainfo', None) or {}
            name, value = mean_score(metrics, meta.get('classes') or ())
            if name is not None:
                metrics = {name: value, **metrics}
        check_finite(runner)
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
        check_finite(runner)
        self.gradients = pending_gradients(runner)
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
        self.gradients = {}
        self.saved_step = step
        if not is_main_process():
            return
        with written_whole(Path(runner.work_dir) / 'last_checkpoint') as file:
            file.write(self.filename_tmpl.format(step).encode())
        for old in kept[: -self.max_keep_ckpts]:
            self.file_backend.remove(self._path(old))
        self.file_backend.finish()

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _distrust(self, runner: Runner) -> None:
        """Let records of a resumed checkpoint name only files that this hook could have written here.

        A work dir may have been copied or moved, and a file may be anybody's.
        """
        hub = runner.message_hub
        if FORMERLY in hub.runtime_info:
            hub.update_info(VALIDATED, hub.runtime_info.pop(FORMERLY))
        folder = Path(self.out_dir or '', Path(runner.work_dir).name)
        folder = folder if self.out_dir else Path(runner.work_dir)
        for key in [key for key in hub.runtime_info if key.startswith('best_ckpt')]:
            name = Path(str(hub.get_info(key))).name
            if BEST.fullmatch(name):
                hub.update_info(key, str(folder / name))
            else:
                del hub.runtime_info[key]
        for key in [key for key in hub.runtime_info if key.startswith('best_score')]:
            if not isinstance(hub.get_info(key), (int, float)):
                del hub.runtime_info[key]
        kept = hub.runtime_info.get('keep_ckpt_ids')
        if kept is not None:
            numbers = [step for step in kept if type(step) is int] if _is_list(kept) else []
            hub.update_info('keep_ckpt_ids', numbers)

    def _clean_up(self, runner: Runner) -> None:
        """Remove the incomplete files of killed processes; those of running ones are left."""
        for folder in {Path(self.out_dir), Path(runner.work_dir)}:
            for start in (self.filename_tmpl.split('{')[0], 'best_', 'last_checkpoint'):
                for file in folder.glob(f'.{start}*{ASIDE}'):
                    if not _is_running(file.name):
                        file.unlink(missing_ok=True)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _is_running(name: str) -> bool:
    """Whether the process that writes the file ``.NAME.PID.tmp`` runs on this machine."""
    number = name.removesuffix(ASIDE).rpartition('.')[-1]
    if not number.isdigit() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's
        return True
    return True


def setup_of(runner: Runner) -> dict[str, int]:
    """What the numbers of a run depend on, besides its seed and its config."""
    return {
        'processes': runner.world_size,
        'workers': int(getattr(runner.train_loop.dataloader, 'num_workers', 0)),
        'accumulated steps': accumulated_steps(runner),
    }


def check_finite(runner: Runner) -> None:
    """Raise FloatingPointError, in all processes, if weights or their averages are not finite."""
    averages = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    wrong = [name for model in (runner.model, *averages) for name in not_finite(model)]
    number = torch.tensor(len(wrong))
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        number = number.to(next(runner.model.parameters()).device)
        all_reduce(number)
    if int(number):
        raise FloatingPointError(
            f'weights must be finite to be saved, got NaN or infinity in {int(number)} tensors, such '
            f'as {wrong[:3]}; the files saved before are kept: resume from the last one with a lower '
            'learning rate or without fp16 (--amp)'
        )


def not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters and buffers that have a NaN or an infinity."""
    state = [*model.named_parameters(), *model.named_buffers()]
    floats = [(name, tensor) for name, tensor in state if tensor.is_floating_point()]
    if not floats:
        return []
    finite = torch.stack([tensor.detach().isfinite().all() for _, tensor in floats]).tolist()
    return [name for (name, _), good in zip(floats, finite, strict=True) if not good]


def _validation(runner: Runner) -> tuple[int, bool]:
    """The current epoch (or step, if the loop counts steps), and whether a validation is due."""
    loop = runner.train_loop
    epochs = isinstance(loop, EpochBasedTrainLoop)
    place, last = (loop.epoch, loop.max_epochs) if epochs else (loop.iter, loop.max_iters)
    due = place % loop.val_interval == 0 or place == last
    return place, runner.val_loop is not None and place >= max(loop.val_begin, 1) and due
