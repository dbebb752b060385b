"""The second stage of D-FINE's training: it starts from the best weights of the first."""

from __future__ import annotations

from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner

from ...checkpoints.files import read_checkpoint
from ...registry import HOOKS
from .checkpoint import VALIDATED

MOMENTUM, SEEN = 'restarted_momentum', 'restart_best'
"""Keys in the message hub: the momentum of the average since the last restart, and the best checkpoint
when the epoch began. They are in the checkpoints, so a resumed run restarts as it would have."""


@HOOKS.register_module()
class RestartFromBestHook(Hook):
    """Loads the best checkpoint at an epoch, and again after each later one that is not better.

    The average of the weights, which an ``EMAHook`` must keep, continues from that of the checkpoint
    with another momentum (1 - the decay of D-FINE's code), which grows with each further restart.

    Args:
        begin: the first epoch of the second stage.
        momentum: of the average from there on.
        growth: added to it at each further restart.
    """

    def __init__(self, begin: int, momentum: float = 1e-4, growth: float = 1e-4) -> None:
        self.begin, self.momentum, self.growth = begin, momentum, growth

    def before_train(self, runner: Runner) -> None:
        """A resumed run has the momentum that it had."""
        known = runner.message_hub.runtime_info.get(MOMENTUM)
        average_of(runner).ema_model.momentum = known or average_of(runner).ema_model.momentum

    def before_train_epoch(self, runner: Runner) -> None:
        known = runner.message_hub.runtime_info
        validated = known.get(VALIDATED) == runner.epoch
        if runner.epoch == self.begin:
            self._restart(runner, self.momentum)
        elif runner.epoch > self.begin and validated and known.get(SEEN) == best_of(runner):
            self._restart(runner, average_of(runner).ema_model.momentum + self.growth)
        runner.message_hub.update_info(SEEN, best_of(runner))

    def _restart(self, runner: Runner, momentum: float) -> None:
        average_of(runner).ema_model.momentum = momentum
        runner.message_hub.update_info(MOMENTUM, momentum)
        path = best_of(runner)
        if path is None:
            runner.logger.warning(
                'There is no best checkpoint to restart from: save_best of the checkpoint hook must be '
                'set, and a validation must come before the second stage. The weights are kept.'
            )
            return
        runner.logger.info(f'Restart from {path}; momentum of the average: {momentum:g}.')
        checkpoint = read_checkpoint(path)
        averaged = average_of(runner)
        averaged.src_model.load_state_dict(trained_weights(checkpoint))
        averaged.ema_model.module.load_state_dict(checkpoint['state_dict'])


def best_of(runner: Runner) -> str | None:
    """Path of the best checkpoint so far."""
    return runner.message_hub.runtime_info.get('best_ckpt')


def average_of(runner: Runner) -> EMAHook:
    """The hook that averages the weights.

    Raises:
        ValueError: there is none.
    """
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):
            return hook
    raise ValueError(
        'RestartFromBestHook needs an EMAHook in custom_hooks, got none; add one, or leave it out'
    )


def trained_weights(checkpoint: dict) -> dict:
    """The weights that are trained, of a checkpoint whose ``state_dict`` is their average."""
    prefix = 'module.'
    weights = checkpoint['ema_state_dict'].items()
    return {n.removeprefix(prefix): value for n, value in weights if n.startswith(prefix)}
