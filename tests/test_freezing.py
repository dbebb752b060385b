"""Frozen parts stay as they are, bit by bit, and cost no memory of the optimizer."""

from __future__ import annotations

import pytest
import tiny
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmdetr_plugin.registry import MODELS

CONFIG = 'digits_deformable_detr'  # its backbone has norms that learn
FROZEN = ['backbone', 'encoder', 'decoder.layers.0-1.ffn']
PREFIXES = ('backbone.', 'encoder.', 'decoder.layers.0.ffn.', 'decoder.layers.1.ffn.')


def build(**changes: object) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(tiny.shrink(tiny.load(CONFIG).model, dropout=0.1, **changes)).train()


def two_steps(model: nn.Module, paramwise: bool = True) -> torch.optim.Optimizer:
    """Two steps as the runner makes them, with the config's optimizer."""
    cfg = tiny.load(CONFIG).optim_wrapper
    if not paramwise:
        del cfg['paramwise_cfg']
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        wrapper = build_optim_wrapper(model, cfg)
    for _ in range(2):
        model.train()
        losses = model.loss(*tiny.batch())
        wrapper.update_params(sum(v for k, v in losses.items() if 'loss' in k))
    return wrapper.optimizer


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and statistics."""
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize('paramwise', [True, False])
def test_frozen_parts_do_not_change(paramwise: bool) -> None:
    model = build(frozen_parts=FROZEN)
    before = tensors(model)
    optimizer = two_steps(model, paramwise)
    changed = {name for name, value in tensors(model).items() if not value.equal(before[name])}
    frozen = {name for name in before if name.startswith(PREFIXES)}
    assert changed and not changed & frozen
    assert changed == set(before) - frozen, 'everything else learns'
    names = {id(p): name for name, p in model.named_parameters()}
    with_state = {names[id(parameter)] for parameter in optimizer.state}
    assert with_state == changed
    if paramwise:
        groups = {names[id(p)] for group in optimizer.param_groups for p in group['params']}
        assert groups == with_state


def test_without_freezing_norms_and_their_statistics_learn() -> None:
    model = build()
    before = tensors(model)
    two_steps(model)
    changed = {name for name, value in tensors(model).items() if not value.equal(before[name])}
    assert {n for n in before if n.startswith('backbone.') and 'running_mean' in n} <= changed


def test_frozen_parts_evaluate_and_others_train() -> None:
    model = build(frozen_parts=FROZEN)
    for name, module in model.named_modules():
        inside = f'{name}.'.startswith(PREFIXES)
        assert module.training is not inside, name


def test_one_name_needs_no_list() -> None:
    """As the command line gives it."""
    model = build(frozen_parts='encoder')
    assert model.frozen_parts == ('encoder',)
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert all(p.requires_grad for p in model.decoder.parameters())


@pytest.mark.parametrize(
    ('name', 'got', 'near'),
    [
        ('encodr', "'encodr'", "'encoder'"),
        ('decoder.layers.1-2', "'decoder.layers.2'", "'decoder.layers.1'"),
    ],
)
def test_unknown_names_are_told(name: str, got: str, near: str) -> None:
    text = rf'frozen_parts must name parts of the model, got {got}; did you mean one of .*{near}'
    with pytest.raises(ValueError, match=text):
        build(frozen_parts=[name])


def test_the_former_name_is_read() -> None:
    model = build(freeze=FROZEN)
    assert model.frozen_parts == tuple(FROZEN)
    with pytest.raises(ValueError, match='frozen parts must be named once'):
        build(freeze=FROZEN, frozen_parts=FROZEN)


def test_a_config_gives_the_names() -> None:
    """Dictionaries of MMEngine have a method `freeze`."""
    cfg = tiny.load('detr_r50')
    cfg.model.frozen_parts = ['encoder']
    assert cfg.model.frozen_parts == ['encoder']
