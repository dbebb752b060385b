"""The slots of a config's model with what fills them, and the facts of its training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from torch import nn

from ..engine.hooks.effective_batch import describe

HIDDEN = ('type', '_scope_', 'init_cfg')
HEADER = ('slot', 'class', 'trainable', 'parameters', 'settings')


@dataclass(frozen=True)
class Slot:
    """One row: a slot of the model, the class that fills it, and what the config says to it."""

    name: str
    kind: str
    parameters: tuple[int, int]
    """Trainable and all."""
    settings: Mapping[str, Any]

    def cells(self) -> tuple[str, ...]:
        numbers = (f'{n:,}' if self.parameters[1] else '' for n in self.parameters)
        return (self.name, self.kind, *numbers, arguments(self.settings))


def slots(cfg: Mapping[str, Any], modules: Sequence[nn.Module], path: str = '') -> Iterator[Slot]:
    """The slots inside a part, those that its class fills by default too, outer slots first.

    Args:
        cfg: config of the part.
        modules: what was built of it; several if it is repeated in layers.
        path: name of the part, '' for the model.
    """
    defaults = inspect.signature(type(modules[0])).parameters if modules else {}
    filled: dict[str, Any] = {name: p.default for name, p in defaults.items()}
    filled.update(cfg)
    order = [name for name, _ in modules[0].named_children()] if modules else []
    names = [name for name, value in filled.items() if _is_slot(name, value)]
    for name in sorted(names, key=lambda n: order.index(n) if n in order else len(order)):
        value = filled[name]
        inner = [child for module in modules for child in _children(module, name)]
        full_name = f'{path}.{name}' if path else name
        group = isinstance(inner[0], nn.ModuleDict) if inner else 'type' not in value
        if not group:  # of parts that are slots themselves, as the losses are
            kinds = dict.fromkeys(type(module).__name__ for module in inner)
            settings = {k: v for k, v in value.items() if not _is_slot(k, v)}
            yield Slot(full_name, '/'.join(kinds) or type_name(value), count(inner), settings)
        yield from slots(value, inner, full_name)


def _is_slot(name: str, value: object) -> bool:
    """Whether it is the config of a part, or of a group of parts as ``layer`` is.

    ``norm_cfg`` and its like are settings of the part that they stand in.
    """
    if not isinstance(value, Mapping) or name.endswith('_cfg'):
        return False
    return 'type' in value or any(isinstance(inner, Mapping) for inner in value.values())


def _children(module: nn.Module, name: str) -> list[nn.Module]:
    """The submodules that fill a slot; ``layer`` fills each of ``layers``."""
    children = dict(module.named_children())
    child = children.get(name, children.get(f'{name}s'))
    if child is None:
        return []
    return list(child) if isinstance(child, nn.ModuleList) else [child]


def count(modules: Sequence[nn.Module]) -> tuple[int, int]:
    """Trainable parameters and all of them."""
    parameters = {id(p): p for module in modules for p in module.parameters()}.values()
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def arguments(settings: Mapping[str, Any]) -> str:
    return ', '.join(f'{k}={show(v)}' for k, v in settings.items() if k not in HIDDEN)


def type_name(cfg: Mapping[str, Any]) -> str:
    kind = cfg.get('type', 'dict')
    return kind.split('.')[-1] if isinstance(kind, str) else kind.__name__


def show(value: object) -> str:
    """A setting as one reads it: a config of type T with its arguments is T(...)."""
    if isinstance(value, Mapping):
        return f'{type_name(value)}({arguments(value)})'
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(show, value))}]'
    return repr(value)


def summary(cfg: Config, model: nn.Module) -> Iterator[tuple[str, str]]:
    """(what, value) of the facts that stand in no slot."""
    stated = {k: v for k, v in cfg.model.items() if k not in HIDDEN and not _is_slot(k, v)}
    parameters = inspect.signature(type(model)).parameters
    for name in ('num_levels', 'layout'):
        if name in parameters:
            yield name, str(stated.pop(name, parameters[name].default))
    yield 'model', arguments(stated)
    if 'optim_wrapper' in cfg:
        yield 'optimizer', show(cfg.optim_wrapper.optimizer)
        keys = cfg.optim_wrapper.get('paramwise_cfg', {}).get('custom_keys', {})
        yield from ((f'  {part}', arguments(rates)) for part, rates in keys.items())
    if cfg.get('train_cfg'):
        yield 'length', arguments({k: v for k, v in cfg.train_cfg.items() if k.startswith('max_')})
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, (list, tuple)) else [schedulers]
    yield 'learning rate', ', '.join(map(show, schedulers)) or 'constant'
    if 'optim_wrapper' in cfg and 'train_dataloader' in cfg:
        tuned = cfg.get('auto_scale_lr', {}).get('base_batch_size')
        steps = cfg.optim_wrapper.get('accumulative_counts', 1)
        rate = cfg.optim_wrapper.optimizer.lr
        yield 'on one GPU', describe(cfg.train_dataloader.batch_size, 1, steps, tuned, rate)
