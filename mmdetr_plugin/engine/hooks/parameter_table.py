"""Logs which parameters are trained, and at which learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from terminaltables import AsciiTable
from torch import nn

from ...registry import HOOKS


@HOOKS.register_module()
class ParameterTableHook(Hook):
    """Logs a table before training: parts, number of parameters, learning rate, weight decay."""

    def before_train(self, runner: Runner) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        groups = runner.optim_wrapper.optimizer.param_groups
        runner.logger.info(f'Parameters:\n{parameter_table(model, groups)}')


def parameter_table(model: nn.Module, groups: list[dict]) -> str:
    """A text table with one row for all parameters of a part that share rate and weight decay.

    Args:
        model: its direct submodules are the parts.
        groups: parameter groups of the optimizer.
    """
    of_parameter = {id(p): group for group in groups for p in group['params']}
    rows: dict[tuple[str, ...], list] = {}
    for name, parameter in model.named_parameters():
        group = of_parameter.get(id(parameter)) if parameter.requires_grad else None
        row = rows.setdefault((name.split('.')[0], *_training(group)), [0, name])
        row[0] += parameter.numel()
    trained = sum(n for (*_, state), (n, _) in rows.items() if state != 'frozen')
    total = sum(n for n, _ in rows.values())
    table = [['part', 'parameters', 'lr', 'weight decay', 'state', 'the first of them']]
    for (part, rate, decay, state), (number, first) in rows.items():
        table.append([part, f'{number:,}', rate, decay, state, first])
    table.append(['total', f'{total:,}', '', '', f'{trained:,} trained', ''])
    ascii_table = AsciiTable(table)
    ascii_table.inner_footing_row_border = True
    ascii_table.justify_columns = {1: 'right'}
    return ascii_table.table


def _training(group: Mapping | None) -> tuple[str, str, str]:
    """Learning rate (before any schedule), weight decay and state of a parameter group."""
    if group is None:
        return '', '', 'frozen'
    rate = group.get('initial_lr', group['lr'])
    return f'{rate:g}', f'{group.get("weight_decay", 0):g}', 'trained'
