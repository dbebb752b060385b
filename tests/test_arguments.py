"""Wrong arguments anywhere in a model: our error names the place, or the value works."""

from __future__ import annotations

import copy
import itertools
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import pytest
import tiny
import torch
from mmengine.registry import DefaultScope
from torch import nn

from mmdetr_plugin.arguments import SlotError, check_value, parameters_of
from mmdetr_plugin.build import build_slot
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.hints import Range, fits, implied, words
from mmdetr_plugin.registry import MODELS, TASK_UTILS

WRONG = (None, 'x', '8', -1, 0, 1.5, True, [], ['a'], {'a': 1}, {}, float('nan'), object(), [0, -1])
QUICK = ('detr_r50', 'dino_r50', 'd_fine_s', 'tsp_rcnn_r50')
COSTS = {'FocalLossCost': 'FocalCost', 'ClassificationCost': 'SoftmaxCost'}

Path = tuple[Any, ...]


class Argument(NamedTuple):
    """An argument of a part, by the keys that lead to it in the model's config."""

    config: str
    path: Path

    def __str__(self) -> str:
        return f'{self.config}-{".".join(map(str, self.path))}'


@cache
def small(name: str) -> Any:
    return tiny.shrink(tiny.load(name).model)


def parts(node: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping]]:
    """Every config of a part inside a model, and where it is."""
    if isinstance(node, Mapping):
        if ('type' in node and not path) or isinstance(node.get('type'), str):
            yield path, node
        for key, value in node.items():
            yield from parts(value, (*path, key))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from parts(value, (*path, i))


def arguments(name: str) -> list[Argument]:
    """The arguments of all parts that are no parts themselves, stated or not."""
    found = []
    for path, cfg in parts(small(name)):
        known = {key: None for key in cfg if key != 'type'}
        cls = class_of(cfg['type'])
        if cls is not None and cls.__module__.startswith('mmdetr_plugin'):
            known.update(dict.fromkeys(parameters_of(cls).known))
        for key in known:
            if not isinstance(cfg.get(key), (Mapping, nn.Module)) and key not in (
                '_scope_',
                'init_cfg',
            ):
                found.append(Argument(name, (*path, key)))
    return found


@cache
def backbone_of(name: str) -> nn.Module:
    """The backbone of a config, which takes most of the time of a build."""
    return tiny.build(name).backbone


def changed(argument: Argument, value: Any) -> Any:
    model = copy.deepcopy(small(argument.config))
    node: Any = model
    for key in argument.path[:-1]:
        node = node[key]
    if isinstance(node, Mapping):
        dict.__setitem__(node, argument.path[-1], value)  # as it is: ConfigDict would convert it
    return model


def try_value(argument: Argument, value: Any, train: bool) -> None:
    """Build a model, and compute its losses; only our errors may come."""
    model = changed(argument, value)
    if argument.path[0] != 'backbone':
        dict.__setitem__(model, 'backbone', backbone_of(argument.config))
    try:
        built = MODELS.build(model)
        if train and 'compile' not in argument.path:
            with tiny.training(built):
                built.loss(*tiny.batch())
    except (ValueError, FloatingPointError) as error:
        assert 'got' in str(error), f'{argument}={value!r}: {error!r}'


def chosen(values: Sequence[Any], argument: Argument, number: int) -> Iterator[Any]:
    start = zlib.crc32(str(argument).encode()) % len(values)
    return itertools.islice(itertools.cycle(values), start, start + number)


@pytest.mark.parametrize('name', QUICK)
def test_a_wrong_value_of_any_argument_is_our_error(name: str) -> None:
    """Two values of each argument; the slow test has all, in all configs, and a training step."""
    torch.manual_seed(0)
    for argument in arguments(name):
        for value in chosen(WRONG, argument, 2):
            try_value(argument, value, train=False)


def own(cfg: Mapping) -> dict[str, str]:
    """The arguments of a part; of parts inside it, their types alone."""
    out = {}
    for key, value in cfg.items():
        inner = value if isinstance(value, (list, tuple)) else [value]
        kinds = [x.get('type', sorted(x)) if isinstance(x, Mapping) else x for x in inner]
        out[key] = repr(kinds)
    return out


def class_of(kind: str) -> type | None:
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        return MODELS.get(kind) or TASK_UTILS.get(kind)


def refused_anywhere(cls: type, name: str, value: Any) -> bool:
    """Whether the type or the range of an argument forbids a value, whatever is around it."""
    known, hints, _ = parameters_of(cls)
    if name not in known:
        return False
    try:
        check_value(cls, name, value, 'anywhere', known[name], hints)
    except SlotError:
        return True
    return False


@cache
def different_trials() -> list[tuple[Argument, Any]]:
    """Every wrong value at every argument of all configs; what must have the same result, once.

    That are equal parts in equal places, and values that the type or range of an argument forbids.
    """
    found: dict[tuple, tuple[Argument, Any]] = {}
    for name in tiny.CONFIGS:
        cfgs = dict(parts(small(name)))
        for argument in arguments(name):
            path, key = argument.path[:-1], argument.path[-1]
            around = [cfgs[path[:i]]['type'] for i in range(len(path)) if path[:i] in cfgs]
            place = repr((around, path, sorted(own(cfgs[path]).items())))
            cls = class_of(cfgs[path]['type'])
            for i, value in enumerate(WRONG):
                anywhere = cls is not None and refused_anywhere(cls, key, value)
                found.setdefault((cls if anywhere else place, key, i), (argument, value))
    return list(found.values())


SHARDS = 4


@pytest.mark.exhaustive
@pytest.mark.parametrize('shard', range(SHARDS))
def test_every_wrong_value_in_every_config(shard: int) -> None:
    """And a training step, where the model can be built."""
    torch.manual_seed(0)
    faults = []
    for argument, value in different_trials()[shard::SHARDS]:
        try:
            try_value(argument, value, train=True)
        except Exception as error:  # noqa: BLE001 - all of them are listed
            faults.append(f'{argument}={value!r}: {error!r}'[:500])
    assert not faults, '\n'.join(faults)


@pytest.mark.parametrize(
    ('path', 'value', 'text'),
    [
        (
            'encoder.layer.self_attn.num_heads',
            '8',
            r"model.encoder.layer.self_attn.num_heads must be a positive integer, got '8'; change it",
        ),
        (
            'encoder.layer.self_attn.num_heads',
            5,
            r"'model.encoder.layer.self_attn': .*divisible by num",
        ),
        (
            'encoder.layer.ffn',
            {'type': 'FeedForward', 'hidden_dims': 0},
            r'model.encoder.layer.ffn.hidden_dims must be a positive',
        ),
        ('dropout', 1.5, r'model.dropout must be a number from 0 to 1, got 1.5'),
        ('dropout', float('nan'), r'model.dropout must be a number from 0 to 1, got nan'),
        ('embed_dims', True, r'model.embed_dims must be a positive integer, got True'),
        ('channels_last', 'yes', r"model.channels_last must be True or False, got 'yes'"),
        ('queries', 3, r'model.queries must be a dict, got 3; a part is written dict\(type='),
        (
            'queries.num_queries',
            10.0,
            r'model.queries.num_queries must be a positive integer, got 10.0',
        ),
        (
            'queries.num_quries',
            10,
            r"takes \[.*\], got \['num_quries'\]; .*did you mean 'num_queries'",
        ),
        ('num_level', 1, r"DETR takes \[.*\], got \['num_level'\]; .*did you mean 'num_levels'"),
        ('decoder.layer.cross_atn', {}, r"slot 'model.decoder.layer': .*did you mean 'cross_attn'"),
        (
            'decoder.layer.cross_attn.type',
            7,
            r"'model.decoder.layer.cross_attn' must name a registered",
        ),
        (
            'criterion.losses.loss_cls.loss_weight',
            '1',
            r'losses.loss_cls.loss_weight must be a number >=',
        ),
        (
            'criterion.assigner.match_costs.0.weight',
            [1],
            r'assigner.match_costs.0.weight must be a number',
        ),
        ('criterion.assigner.match_costs.0.typ', 1, r"match_costs.0': .*got \['typ'\]"),
        ('backbone.depth', '18', r"model.backbone.depth must be a positive integer .*, got '18'"),
        ('backbone.depth', 19, r"slot 'model.backbone': .* must be buildable .*depth=19"),
        ('backbone.frozen_stages', 'all', r"model.backbone.frozen_stages must be .*, got 'all'"),
        ('backbone.out_indices', (9,), r"slot 'model.backbone': "),
        ('backbone.dept', 18, r"takes \[.*\], got \['dept'\]; .*did you mean 'depth'"),
        ('neck.in_channels', 'all', r'model.neck.in_channels must be a list of positive integers'),
        ('frozen_parts', [3], r'model.frozen_parts must be a text or a list of texts, got \[3\]'),
        ('layout', 'dtr', r"must be one of .*got 'dtr'"),
        ('compile', {'bckend': 'x'}, r'model.compile must be .*bckend'),
        ('teacher', {'confg': 'x'}, r"slot 'model.teacher': .*did you mean 'confi"),
        ('teacher', {'config': 'x.py', 'checkpoint': None}, r'model.teacher.config must be .*x.py'),
        ('test_cfg', {'max_per_img': 'all'}, r"model.postprocess.max_per_img must be .*got 'all'"),
        ('data_preprocessor.mean', 'x', r'model.data_preprocessor.mean must be'),
        ('init_cfg', 5, r'model.init_cfg must be a dict'),
        (
            'neck.norm_cfg',
            {'type': 'GN', 'num_groups': -1},
            r'model.neck.norm_cfg.num_groups must be a positive integer, got -1',
        ),
    ],
)
def test_what_the_error_says(path: str, value: object, text: str) -> None:
    keys = tuple(int(key) if key.isdigit() else key for key in path.split('.'))
    with pytest.raises(ValueError, match=text):
        MODELS.build(changed(Argument('detr_r50', keys), value))


def test_the_arguments_of_branches_have_their_own_place() -> None:
    for i, key, text in (
        (0, 'box_noise', r'model.branches.0.box_noise must be a number >= 0'),
        (None, 'base_size', r'model.queries.base_size must be a number between 0 and 1'),
    ):
        cfg = copy.deepcopy(small('dino_r50'))
        (cfg.queries if i is None else cfg.branches[i])[key] = -1.0
        with pytest.raises(SlotError, match=text):
            MODELS.build(cfg)


def test_a_missing_slot_is_named() -> None:
    cfg = copy.deepcopy(small('detr_r50'))
    cfg.nek = cfg.pop('neck')
    with pytest.raises(
        ValueError, match=r"slot 'model': DETR takes .*got \['nek'\].*'neck' for 'nek'"
    ):
        MODELS.build(cfg)
    del cfg['nek']
    with pytest.raises(ValueError, match=r"slot 'model': DETR needs \['neck'\]"):
        MODELS.build(cfg)


@MODELS.register_module()
class OfAUser(nn.Module):
    """Hints that exist for type checkers alone, and names that it passes on."""

    def __init__(self, number: Undefined = 1, **kwargs: object) -> None:  # noqa: F821
        super().__init__()
        self.given = {'number': number, **kwargs}


def test_parts_of_users_may_take_what_they_like() -> None:
    built = build_slot(MODELS, {'type': 'OfAUser', 'number': 'x', 'other': 3}, 'queries')
    assert built.given == {'number': 'x', 'other': 3}


def test_a_copy_of_a_model_is_not_checked_once_more() -> None:
    model = tiny.build('detr_r50')
    assert isinstance(copy.deepcopy(model), DETR)


@pytest.mark.parametrize(
    ('value', 'hint', 'fine'),
    [
        (1, int, True),
        (True, int, False),
        (1, float, True),
        (1.0, int, False),
        (float('inf'), float, False),
        ('x', str | None, True),
        (None, str | None, True),
        ([1, 2], Sequence[int], True),
        ((1, 2), list[int], True),
        ('12', Sequence[str], False),
        ([1, 'a'], Sequence[int], False),
        ((1.0, 2), tuple[float, float], True),
        ((1.0,), tuple[float, float], False),
        ({'a': 1}, Mapping[str, int], True),
        ({'a': 'b'}, Mapping[str, int], False),
        (nn.Identity(), Mapping, True),
        (3, object, True),
        (3, 'unknown', True),
    ],
)
def test_values_and_hints(value: object, hint: object, fine: bool) -> None:
    assert fits(value, hint) == fine


def test_hints_in_words() -> None:
    assert words(int | None, Range(1)) == 'a positive integer or None'
    assert words(Sequence[float], Range(0, 1)) == 'a list of numbers from 0 to 1'
    assert words(tuple[float, float]) == 'a list of 2 numbers'
    assert words(None | bool | str) == 'True or False or a text or None'
    assert implied(3) is not None and fits([1, 2], implied(3)) and not fits('3', implied(3))
