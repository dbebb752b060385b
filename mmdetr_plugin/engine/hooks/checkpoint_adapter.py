"""Adapts the checkpoint of ``load_from`` to other classes and another number of queries."""

from __future__ import annotations

import re
from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from ...checkpoints.addresses import register_safe_loader
from ...checkpoints.class_names import Names, names_beside, stated_names
from ...checkpoints.loading import weights_for
from ...checkpoints.stated_config import differences, stated_config
from ...detector import DETR
from ...registry import HOOKS

SHOWN = 8
TRAINING = ('optimizer.type', 'paramwise_cfg', 'constructor')
"""Options of the optimizer wrapper on which the groups of parameters depend."""

ELSEWHERE = re.compile(
    r'num_classes|num_queries|criterion|frozen_parts|with_cp|compile|channels_last|init_cfg|frozen_stages|'
    r'dropout|drop_path|layout|test_cfg|train_cfg|postprocess|_scope_|branches|denoising'
)
"""Options that may differ or that other messages cover."""


@HOOKS.register_module()
class CheckpointAdapter(Hook):
    """Fits the weights of ``load_from`` to the model and logs what was loaded.

    When training starts, class rows are mapped by name or newly initialised, and the number of
    queries may differ. When a checkpoint is evaluated, all weights must come from the file. When a
    run is resumed, the checkpoint is not changed.
    """

    priority = 'HIGH'  # before EMAHook, which copies the weights

    def before_run(self, runner: Runner) -> None:
        """Make the runner load downloaded files without running code in them."""
        register_safe_loader()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the weights in ``checkpoint`` by those that fit the model.

        Raises:
            ValueError: the checkpoint belongs to another model, or it is evaluated and lacks weights.
        """
        # MMEngine would run the text of the config, which is Python, when a run is resumed.
        meta = checkpoint.get('meta')
        text = None
        if isinstance(meta, dict):
            text = meta.pop('config', None) or meta.get('cfg')
        _compare_configs(runner, stated_config(text))
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if runner._resume or not isinstance(model, DETR):
            return
        # ``Runner.train`` builds its loop before it loads the checkpoint; so do ``test`` and ``val``.
        start = isinstance(runner._train_loop, BaseLoop)
        file = runner._load_from or ''
        source = stated_names(checkpoint) or names_beside(file)
        state, plan = weights_for(model, checkpoint, source, data_names(runner), start)
        plan.check_complete()
        runner.logger.info(f'What is loaded from {file or "the checkpoint"}:\n{plan.table()}')
        checkpoint['state_dict'] = state


def _compare_configs(runner: Runner, theirs: Mapping) -> None:
    """Report options that differ from those of the run that wrote the checkpoint.

    Raises:
        ValueError: a run is resumed with another optimizer or other frozen parts.
    """
    if not theirs:
        return
    theirs, ours = (
        {'model': _renamed(cfg.get('model')), 'optim_wrapper': cfg.get('optim_wrapper')}
        for cfg in (theirs, runner.cfg)
    )
    if runner._resume:
        chosen = (('optim_wrapper', TRAINING), ('model', ('frozen_parts',)))
        changed = [
            line
            for key, names in chosen
            for line in differences(theirs.get(key), ours.get(key), key)
            if any(f'.{name}' in line.partition(':')[0] for name in names)
        ]
        if changed:
            raise ValueError(
                'a run must be resumed with the optimizer and the frozen parts that it began with, but '
                f'{"; ".join(changed[:SHOWN])}; restore them, or start from the weights: load_from '
                'without --resume'
            )
    lines = [
        line
        for line in differences(theirs['model'], ours['model'], 'model')
        if not ELSEWHERE.search(line.partition(':')[0])
    ]
    if theirs['model'] and lines:
        runner.logger.warning(
            'Options of the model differ from those that the checkpoint was trained with, also such '
            f'that no weight shows: {"; ".join(lines[:SHOWN])}'
            + (f'; and {len(lines) - SHOWN} more' if len(lines) > SHOWN else '')
        )


def _renamed(model: Mapping | None) -> dict:
    """The config of a model with the present names of its options."""
    return {('frozen_parts' if k == 'freeze' else k): v for k, v in (model or {}).items()}


def data_names(runner: Runner) -> Names | None:
    """Class names of the data that the runner trains on, or else of the data it evaluates."""
    for loop in (runner._train_loop, runner._test_loop, runner._val_loop):
        if isinstance(loop, BaseLoop):
            meta = getattr(loop.dataloader.dataset, 'metainfo', None) or {}
            return tuple(meta['classes']) if meta.get('classes') else None
    return None
