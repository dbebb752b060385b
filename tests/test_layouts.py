"""Tables of layouts: the only place where names of other projects stand, and easy to add to."""

from __future__ import annotations

import ast
import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from mmengine.config import Config
from torch import Tensor, nn

import mmdetr_plugin
from mmdetr_plugin.checkpoints import loading, official_names, recognise, to_official, to_ours
from mmdetr_plugin.checkpoints.layouts import (
    ABSENT,
    LAYOUTS,
    Layout,
    check_official,
    get_layout,
    register,
)
from mmdetr_plugin.checkpoints.loading import weights_for
from mmdetr_plugin.checkpoints.names import layout_names
from mmdetr_plugin.engine.hooks.checkpoint_adapter import CheckpointAdapter
from mmdetr_plugin.heads import Head
from mmdetr_plugin.registry import MODELS

PACKAGE = Path(mmdetr_plugin.__file__).parent
OF_MODELS = ('attention', 'backbones', 'heads', 'necks', 'positions', 'queries', 'transformer')
ALSO_A_KEY = 'anchor'
"""The name of a layout, and of something that a decoder's state carries."""


# ---- the tables and the model's files -----------------------------------------------------------


def files_of_the_model() -> Iterator[Path]:
    yield PACKAGE / 'detector.py'
    for room in OF_MODELS:
        yield from (PACKAGE / room).rglob('*.py')


def layouts_in(source: str) -> list[str]:
    """What in a file knows about layouts: their names, functions ``keys``, imports of tables."""
    names = {*LAYOUTS, *(layout.origin for layout in LAYOUTS.values())} - {ALSO_A_KEY}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in names:
            found.append(node.value)
        elif isinstance(node, ast.FunctionDef) and node.name == 'keys':
            found.append('def keys')
        elif isinstance(node, ast.ImportFrom) and (node.module or '').startswith('checkpoints.nam'):
            found.append(node.module)
    return found


def test_no_file_of_the_model_names_a_layout() -> None:
    files = [*files_of_the_model()]
    assert len(files) > 30
    assert {str(file): found for file in files if (found := layouts_in(file.read_text()))} == {}


@pytest.mark.parametrize(
    'source',
    [
        "if layout == 'detr':\n    pass",
        "layout.startswith('mmdet')",
        'class Part:\n    def keys(self, layout):\n        return {}',
        'from .checkpoints.names import layout_names',
    ],
)
def test_names_of_layouts_are_found(source: str) -> None:
    assert layouts_in(source)


def test_tables_name_classes_that_exist() -> None:
    modules = pkgutil.walk_packages([str(PACKAGE)], 'mmdetr_plugin.')
    for module in modules:
        importlib.import_module(module.name)
    classes = {cls.__name__ for cls in subclasses(nn.Module)}
    named = {name for layout in LAYOUTS.values() for name in layout.parts}
    assert len(named) > 25
    assert named <= classes


def subclasses(cls: type) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from subclasses(sub)


@pytest.mark.parametrize('name', ['detr_r50', 'dab_deformable_detr_r50', 'anchor_detr_r50'])
def test_a_wrapped_query_source_keeps_its_names(name: str) -> None:
    """Denoising and the like wrap a source: its names do not depend on where it stands."""
    plain, wrapped = tiny.build(name), tiny.build(name)
    wrapped.queries = nn.ModuleDict({'queries': wrapped.queries})
    for layout in (plain.layout, 'mmdet_detr') if name == 'detr_r50' else (plain.layout,):
        inside = layout_names(wrapped, layout)
        outside = layout_names(plain, layout)
        for ours in (n for n in outside if n.startswith('queries.')):
            assert inside[f'queries.{ours}'] == outside[ours]


# ---- a further layout ---------------------------------------------------------------------------


@pytest.fixture
def add() -> Iterator[Callable[[Layout], Layout]]:
    """Registers layouts for the time of a test."""
    before = dict(LAYOUTS)
    yield register
    LAYOUTS.clear()
    LAYOUTS.update(before)


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in got.items())


def test_one_table_adds_an_official_layout(add: Callable[[Layout], Layout]) -> None:
    add(
        Layout(
            'house',
            base=get_layout('deformable'),
            parts={
                'LearnedQueries': {'embedding.': '/object_queries.'},
                'SetHead': lambda part: {
                    f'{kind}_branches.{i}.': (f'/{kind}.{i}.', f'/again.{kind}.{i}.')
                    for kind in ('class', 'box')
                    for i in range(len(part.class_branches))
                },
            },
        )
    )
    model = tiny.build('deformable_detr_r50', layout='house')
    names = official_names(model, 'house')
    assert names['queries.embedding.weight'] == ('object_queries.weight',)
    assert names['head.class_branches.0.bias'] == ('class.0.bias', 'again.class.0.bias')
    assert names['neck.convs.0.conv.weight'] == ('input_proj.0.0.weight',)  # the base's
    official = to_official(model.state_dict(), model)
    other = tiny.build('deformable_detr_r50', seed=1, layout='house')
    other.load_state_dict({'model': official})
    assert_equal(other.state_dict(), model.state_dict())


def test_one_table_adds_a_layout_that_is_recognised(add: Callable[[Layout], Layout]) -> None:
    """Of two that fit, the one with more marks is meant."""
    add(
        Layout(
            'mmdet_house',
            base=get_layout('mmdet_detr'),
            marks=('bbox_head.fc_cls.', 'object_queries.'),
            parts={'LearnedQueries': {'embedding.': '/object_queries.'}},
        )
    )
    model = tiny.build('detr_r50')
    for layout in ('mmdet_house', 'mmdet_detr'):
        state = model.state_dict()
        table = layout_names(model, layout)
        theirs = {n: state[ours] for ours, each in table.items() for names in each for n in names}
        assert recognise(theirs) == layout
        assert to_ours(theirs, model)[1:] == ('mmdet', [])
        assert_equal(to_ours(theirs, model)[0], state)


def test_entries_add_up_along_the_base_classes() -> None:
    class Base(nn.Module):
        pass

    class Part(Base):
        pass

    class Gone(Part):
        pass

    parts = {'Base': {'a.': 'x.', 'b.': 'y.'}, 'Part': lambda part: {'b.': 'z.'}, 'Gone': ABSENT}
    layout = Layout('house', parts)
    assert layout.names_of(Base()) == {'a.': 'x.', 'b.': 'y.'}
    assert layout.names_of(Part()) == {'a.': 'x.', 'b.': 'z.'}
    assert layout.names_of(Gone()) is ABSENT
    assert layout.names_of(nn.Module()) == {}
    changed = Layout('other', {'Part': {}}, base=layout)
    assert changed.names_of(Part()) == changed.names_of(Base()) == layout.names_of(Base())


def test_names_of_layouts_are_checked() -> None:
    text = r"model.layout must be one of .*'detr'.*, got 'deformabel'; did you mean 'deformable'"
    with pytest.raises(ValueError, match=text):
        tiny.build('detr_r50', layout='deformabel')
    with pytest.raises(ValueError, match=r"got 'xyz'; choose one, or register a new one"):
        check_official('xyz')
    with pytest.raises(ValueError, match=r"model.layout must be one of .*, got 'mmdet_detr'"):
        check_official('mmdet_detr')  # a file is in it, no model is written for it
    with pytest.raises(ValueError, match=r"must be new, but there is a layout 'detr' already"):
        register(Layout('detr', {}))


# ---- ours ---------------------------------------------------------------------------------------


class OwnHead(Head):
    """A head as a user may write it, with names of its own and no word about rows."""

    def __init__(self, num_classes: int, embed_dims: int) -> None:
        super().__init__()
        self.scores = nn.Linear(embed_dims, num_classes)
        self.corners = nn.Linear(embed_dims, 4)


def own(seed: int, **changes: object) -> nn.Module:
    cfg = tiny.shrink(tiny.load('detr_r50').model, **changes)
    cfg.head = {'type': OwnHead}
    return tiny.randomise_(MODELS.build(cfg), seed)


def test_a_head_of_a_users_own_is_loaded_back() -> None:
    source, model = own(0), own(1)
    assert not any(name.startswith('head.class_branches') for name in source.state_dict())
    assert to_ours(source.state_dict(), model)[1:] == ('ours', [])
    model.load_state_dict(source.state_dict())
    assert_equal(model.state_dict(), source.state_dict())


@pytest.mark.parametrize('names', [None, ('cat', 'dog', 'cow', 'hen', 'pig')])
def test_a_head_of_a_users_own_goes_through_the_runners_hook(names: tuple | None) -> None:
    source, model = own(0), own(1)
    runner = SimpleNamespace(
        model=model,
        cfg=Config(),
        logger=logging.getLogger('house'),
        _resume=False,
        _load_from='own.pth',
        _train_loop=None,
        _test_loop=None,
        _val_loop=None,
    )
    checkpoint = {'state_dict': source.state_dict(), 'meta': {'dataset_meta': {'classes': names}}}
    CheckpointAdapter().after_load_checkpoint(runner, checkpoint)
    model.load_state_dict(checkpoint['state_dict'])
    assert_equal(model.state_dict(), source.state_dict())


def test_class_rows_that_nothing_declares_are_kept_as_they_are() -> None:
    source, model = own(0), own(1)
    state, plan = weights_for(model, source.state_dict(), ('a', 'b'), ('b', 'a'))
    assert_equal(state, source.state_dict())
    assert plan.notes == ['classes: no part of the model says which rows are classes, all are kept']
    with pytest.raises(ValueError, match=r'head.scores.weight: file \(5, 32\), model \(3, 32\)'):
        weights_for(own(1, num_classes=3), source.state_dict())


def test_published_names_are_those_of_their_layout_in_any_model() -> None:
    """mmdet's backbone has our names, and a user's head may have a name of theirs."""
    model = tiny.build('detr_r50')
    state = model.state_dict()
    table = layout_names(model, 'mmdet_detr')
    theirs = [n for each in table.values() for names in each for n in names]
    assert sum(name in state for name in theirs) > len(theirs) / 2
    assert recognise(theirs, own=state) == 'mmdet_detr'
    mine = ['class_labels_classifier.weight', *state]
    assert recognise(mine, own=mine) == 'ours'
    assert recognise(mine, own=state) == 'hf_detr'
    with pytest.raises(ValueError, match='give a checkpoint of a model of the DETR family'):
        recognise([*(n for n in state if n.startswith('backbone.')), 'rpn_head.x'], own=state)


# ---- one plan -----------------------------------------------------------------------------------


def test_what_was_planned_is_not_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that the runner's hook made are loaded as they are."""
    source, model = tiny.build('detr_r50', num_classes=3), tiny.build('detr_r50', seed=1)
    checkpoint = {'model': to_official(source.state_dict(), source)}
    state, plan = weights_for(model, checkpoint, 'abc', 'bcdef')
    assert len(plan.steps) >= len(state)
    calls = []
    monkeypatch.setattr(loading, 'weights_for', lambda *args, **options: calls.append(args))
    model.load_state_dict(state)
    assert calls == []
    assert_equal(model.state_dict(), state)


def test_every_official_layout_is_that_of_some_config() -> None:
    used = {tiny.load(name).model.get('layout', 'detr') for name in tiny.CONFIGS}
    assert used == {name for name, layout in LAYOUTS.items() if layout.origin == 'official'}
