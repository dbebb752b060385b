"""Weights of one model for another number of classes and queries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from mmdet.datasets import CocoPanopticDataset
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import to_official
from mmdetr_plugin.checkpoints.adapt import adapt
from mmdetr_plugin.checkpoints.class_names import coco_names, names_beside, stated_names
from mmdetr_plugin.checkpoints.loading import weights_for
from mmdetr_plugin.checkpoints.rows import ANY_CLASS, CLASSES, QUERIES, row_table
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing.shrinking import replace_everywhere

FAMILIES = [
    'detr_r50',
    'detr_panoptic_r50',
    'deformable_detr_r50',
    'deformable_detr_refine_r50',
    'deformable_detr_two_stage_r50',
    'conditional_detr_r50',
    'smca_detr_r50',
    'anchor_detr_r50',
    'dab_detr_r50',
    'dab_detr_r50_3pat',
    'dab_deformable_detr_r50',
    'sam_detr_r50',
]
NAMES = ('cat', 'dog', 'cow', 'hen', 'pig')
"""Of the shrunk models' classes."""


def build(name: str, seed: int = 0, **everywhere: int) -> nn.Module:
    """A shrunk model with other numbers of classes, queries or patterns."""
    model = tiny.shrink(tiny.load(name).model)
    torch.manual_seed(seed)
    return tiny.randomise_(MODELS.build(replace_everywhere(model, everywhere)), seed).eval()


def changed(state: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {n for n in other if n not in state or not torch.equal(state[n], other[n])}


def of(model: nn.Module, kind: str) -> set[str]:
    return {name for name, rows in row_table(model).items() if rows.of == kind}


@pytest.fixture(scope='module', params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def source(family: str) -> nn.Module:
    return build(family)


# ---- every family -------------------------------------------------------------------------------


def test_classes_of_another_data_set(family: str, source: nn.Module) -> None:
    target = build(family, seed=1, num_classes=3)
    names = ('pig', 'emu', 'cat')  # rows 4, none, 0
    state, own = source.state_dict(), target.state_dict()
    assert of(target, CLASSES) | of(target, ANY_CLASS) == {
        name for name in own if own[name].shape != state[name].shape
    }
    out, report = adapt(state, target, NAMES, names)
    assert changed(state, out) <= of(target, CLASSES) | of(target, ANY_CLASS)
    for name in of(target, CLASSES):
        torch.testing.assert_close(out[name][[0, 2]], state[name][[4, 0]])
        torch.testing.assert_close(out[name][1], own[name][1])  # the new model's own
        torch.testing.assert_close(out[name][3:], state[name][5:])  # no object
    for name in of(target, ANY_CLASS):
        torch.testing.assert_close(out[name], state[name][:3])
    assert 'classes without a row in the checkpoint, re-initialised: emu' in report.notes
    target.load_state_dict(out)
    back, _ = adapt(out, build(family, seed=2), names, NAMES)
    for name in of(target, CLASSES):
        torch.testing.assert_close(back[name][[0, 4]], state[name][[0, 4]])


@pytest.mark.parametrize('number', [8, 20])
def test_another_number_of_queries(family: str, source: nn.Module, number: int) -> None:
    target = build(family, seed=1, num_queries=number)
    state, own = source.state_dict(), target.state_dict()
    other = {name for name in own if own[name].shape != state[name].shape}
    assert other == {name for name in of(target, QUERIES) if 'patterns' not in name}
    assert bool(other) == ('two_stage' not in family)
    out, report = adapt(state, target)
    assert changed(state, out) == other
    kept = min(number, tiny.NUM_QUERIES)
    for name in other:
        assert torch.equal(out[name][:kept], state[name][:kept])
        noise = out[name][12:] - state[name][: number - kept]
        deviation = state[name].std()
        assert (noise.abs() < deviation).all()
        assert number < 12 or (noise.std() > 0.02 * deviation).all()
    target.load_state_dict(out)
    assert (report.total('mapped')[0], report.total('re-initialised')) == (len(other), (0, 0))
    again, _ = adapt(state, build(family, seed=2, num_queries=number))
    assert not changed(out, again)  # as in another process


@pytest.mark.parametrize('name', ['anchor_detr_r50', 'dab_detr_r50_3pat'])
def test_patterns_and_points_change_each_for_itself(name: str) -> None:
    """Query q of pattern p is the same query, wherever it stands among the others."""
    source, target = build(name), build(name, seed=1, num_queries=5, num_patterns=2)
    target.load_state_dict(adapt(source.state_dict(), target)[0])
    images, samples = tiny.batch()
    with torch.no_grad():
        memories = [m.embed(m.extract_feat(images), samples, tiny.CANVAS) for m in (source, target)]
        many, few = (m.queries(memory, m.head)[0] for m, memory in zip((source, target), memories))
    index = torch.cat((torch.arange(5), 12 + torch.arange(5)))
    torch.testing.assert_close(few.content, many.content[:, index])
    torch.testing.assert_close(few.ref.values, many.ref.values[:, index])


# ---- classes ------------------------------------------------------------------------------------

COCO = CocoPanopticDataset.METAINFO['thing_classes']


@pytest.mark.parametrize('name', ['detr_r50', 'deformable_detr_two_stage_r50'])
def test_coco_to_three_classes_and_back(name: str) -> None:
    coco, ours = build(name, num_classes=80), build(name, seed=1, num_classes=3)
    names = ('Zebra', 'person ', 'toothbrush')
    out, report = adapt(coco.state_dict(), ours, None, names)
    for key in of(ours, CLASSES):
        torch.testing.assert_close(out[key][:3], coco.state_dict()[key][[22, 0, 79]])
    assert report.total('re-initialised') == (0, 0)
    assert report.notes[0].startswith("classes: 3 of 3 found by name (COCO's names: 80 rows")
    back, report = adapt(out, build(name, seed=2, num_classes=80), names, COCO)
    for key in of(ours, CLASSES):
        torch.testing.assert_close(back[key][[22, 0, 79]], out[key][:3])
    assert 'in the checkpoint, re-initialised: bicycle, car, motorcycle' in report.notes[1]
    assert 'and 69 more' in report.notes[1]


@pytest.mark.parametrize('given', [None, NAMES])
def test_without_names_classes_are_re_initialised(given: tuple[str, ...] | None) -> None:
    source, target = build('conditional_detr_r50'), build('conditional_detr_r50', 1, num_classes=3)
    out, report = adapt(source.state_dict(), target, given)
    for name in of(target, CLASSES):
        assert torch.equal(out[name], target.state_dict()[name])
    assert report.notes == ['classes: 5 in the checkpoint, 3 in the model, no names to map them by']


def test_equal_numbers_without_names_keep_their_order() -> None:
    source, target = build('detr_r50'), build('detr_r50', seed=1)
    out, report = adapt(source.state_dict(), target, None, NAMES)
    assert not changed(source.state_dict(), out)
    assert report.notes == ['classes: named on one side only, taken to be in the same order']


def test_classes_of_an_evaluated_file_without_names_are_those_of_the_data() -> None:
    source, target = build('detr_r50', num_classes=80), build('detr_r50', seed=1, num_classes=80)
    names = tuple(f'part {i}' for i in range(80))
    out, _ = adapt(source.state_dict(), target, None, names, start=False)
    assert not changed(source.state_dict(), out)
    _, report = adapt(
        source.state_dict(), target, None, names
    )  # COCO's, so that all are re-initialised
    assert report.total('re-initialised')[1] == 80 * 33


def test_a_fresh_row_starts_at_the_prior() -> None:
    cfg = tiny.shrink(tiny.load('deformable_detr_r50').model, num_classes=6)
    target = MODELS.build(cfg)
    out, _ = adapt(build('deformable_detr_r50').state_dict(), target, NAMES, (*NAMES, 'emu'))
    bias = out['head.class_branches.0.bias'][5]
    torch.testing.assert_close(bias.sigmoid(), torch.tensor(0.01))


def test_numbers_of_coco() -> None:
    ids, panoptic = coco_names(91), coco_names(250)
    assert [n for n in ids if n] == list(COCO)
    assert [n for n in panoptic if n] == list(CocoPanopticDataset.METAINFO['classes'])
    assert panoptic[:91] == ids
    assert (ids[0], ids[1], ids[12], ids[13], ids[90]) == (
        None, 'person', None, 'stop sign', 'toothbrush',
    )  # fmt: skip
    stuff = {92: 'banner', 130: 'light', 178: 'water-other', 184: 'tree-merged', 200: 'rug-merged'}
    assert {i: panoptic[i] for i in stuff} == stuff
    assert coco_names(90) is None


PUBLISHED = {
    'detr_r50': (91, 80, {1: 0, 13: 11, 90: 79}),
    'deformable_detr_two_stage_r50': (91, 80, {1: 0, 13: 11, 90: 79}),
    'detr_panoptic_r50': (250, 133, {1: 0, 90: 79, 92: 80, 200: 132}),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_published_numbers_become_those_of_data_sets(name: str) -> None:
    """On loading, wherever that is, as no names are needed for it."""
    given, wanted, pairs = PUBLISHED[name]
    published, model = build(name, num_classes=given), build(name, seed=1, num_classes=wanted)
    model.load_state_dict({'model': to_official(published.state_dict(), published)})
    images, samples = tiny.batch()
    with torch.no_grad():
        wide, narrow = (m(images, samples, mode='tensor') for m in (published, model))
    for theirs, ours in pairs.items():
        torch.testing.assert_close(
            narrow['pred_logits'][..., ours], wide['pred_logits'][..., theirs]
        )
    torch.testing.assert_close(
        narrow['pred_logits'][..., wanted:], wide['pred_logits'][..., given:]
    )
    if 'enc_logits' in wide:  # proposals are of no class; column 0 ranks them
        torch.testing.assert_close(narrow['enc_logits'], wide['enc_logits'][..., :80])
    numbers, _ = adapt(model.state_dict(), published)
    back = {n: numbers[n] for n in of(published, CLASSES)}
    for key, value in back.items():
        kept = [i for i, n in enumerate(coco_names(given)) if n]
        torch.testing.assert_close(value[kept], published.state_dict()[key][kept])


def test_names_are_read_from_the_checkpoint(tmp_path: Path) -> None:
    assert stated_names({'meta': {'dataset_meta': {'classes': ['a', 'b']}}}) == ('a', 'b')
    assert stated_names({'meta': {'dataset_meta': {'CLASSES': ('a',)}}}) == ('a',)
    assert stated_names({'meta': {'CLASSES': ('a', 'N/A')}}) == ('a', None)
    assert stated_names({'meta': {'epoch': 1}}) is None
    assert stated_names({'model': {}}) is None
    weights = tmp_path / 'model.safetensors'
    assert names_beside(weights) is None
    labels = {'0': 'N/A', '2': 'bus', '1': 'car'}
    (tmp_path / 'config.json').write_text(json.dumps({'id2label': labels}))
    assert names_beside(weights) == (None, 'car', 'bus')
    assert names_beside(tmp_path / 'model.pth') is None
    (tmp_path / 'config.json').write_text('{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}')
    assert names_beside(weights) is None


def test_a_part_may_have_a_submodule_called_rows() -> None:
    """As ``LearnedPosition`` has for the rows of a map: these are no rows of classes or queries."""
    position = {'type': 'LearnedPosition'}
    model = tiny.build('detr_r50', position=position)
    other = tiny.build('detr_r50', seed=1, position=position)
    state, _ = adapt(model.state_dict(), other)
    assert not changed(model.state_dict(), state)


# ---- what is refused ----------------------------------------------------------------------------


def test_other_shapes_are_refused() -> None:
    state = build('detr_r50').state_dict()
    state['decoder.norm.weight'] = torch.zeros(7)
    state['head.class_branches.0.weight'] = torch.zeros(6, 16)
    text = (
        r'\n  decoder.norm.weight: file \(7,\), model \(32,\)'
        r'\n  head.class_branches.0.weight: file \(16,\), model \(32,\)\n.*'
        'only the numbers of classes and queries may differ'
    )
    with pytest.raises(ValueError, match=text):
        weights_for(build('detr_r50', seed=1), state)


def test_class_rows_that_disagree_are_refused() -> None:
    state = build('deformable_detr_refine_r50').state_dict()
    state['head.class_branches.1.bias'] = torch.zeros(4)
    with pytest.raises(ValueError, match=r'must be of the same classes, got.*1\.bias: 4; take'):
        adapt(state, build('deformable_detr_refine_r50', seed=1))


def test_names_that_are_not_those_of_the_rows_are_refused() -> None:
    state, model = build('detr_r50').state_dict(), build('detr_r50', seed=1)
    with pytest.raises(ValueError, match=r'its 5 class rows, got 2 \(cat, dog\); correct them'):
        adapt(state, model, NAMES[:2], NAMES)
    text = (
        r'must be the number of classes of the data set, got 5 for 80 \(person.* 72 more\); set it'
    )
    with pytest.raises(ValueError, match=text):
        adapt(state, model, NAMES, COCO)


@pytest.mark.parametrize(
    ('numbers', 'text'),
    [
        ({'num_classes': 3}, r'but 3 of 3 classes of the model \(0, 1, 2\) have no row in it'),
        ({'num_queries': 9}, r'queries.embedding.weight has 12 rows in it, 9 in the model'),
    ],
)
def test_without_training_nothing_is_re_initialised(numbers: dict[str, int], text: str) -> None:
    source, target = build('detr_r50'), build('detr_r50', seed=1, **numbers)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    for state in (source.state_dict(), to_official(source.state_dict(), source)):
        with pytest.raises(ValueError, match=f'for evaluation and resuming, .*{text}.*load_from'):
            target.load_state_dict(state)
    assert not changed(before, target.state_dict())


# ---- the report ---------------------------------------------------------------------------------


def test_table_counts_everything_once() -> None:
    source = build('detr_panoptic_r50')
    target = build('detr_r50', seed=1, num_classes=3, num_queries=20)
    checkpoint = {'model': to_official(source.state_dict(), source)}
    state, report = weights_for(target, checkpoint, NAMES, ('pig', 'emu', 'cat'))
    target.load_state_dict(state)
    counted = [report.total(kind)[1] for kind in ('loaded', 'mapped', 're-initialised', 'filled')]
    whole = sum(v.numel() for n, v in state.items() if 'num_batches_tracked' not in n)
    assert sum(counted) == whole
    assert report.total('re-initialised') == (2, 32 + 1)
    assert report.counts['head']['mapped'] == [2, 3 * (32 + 1)]  # two classes and no object
    assert report.counts['queries'] == {'mapped': [1, 20 * 32]}
    skipped = sum(v.numel() for v in source.mask_head.state_dict().values())
    assert report.total('skipped')[1] == skipped
    text = report.table()
    assert f'| mask_head | {" " * 50}'[:12] in text
    assert '2 (99)' in text
    assert (
        'queries.embedding.weight: 12 rows in the checkpoint, 20 here: the first are kept; the oth'
        in text
    )


def test_what_did_not_come_from_the_file_is_counted_apart() -> None:
    source, target = build('deformable_detr_r50'), build('deformable_detr_r50', seed=1)
    names = [name for name in source.state_dict() if name.endswith('conv.bias')]
    _, report = adapt(source.state_dict(), target, filled=names)
    assert report.total('filled') == (len(names), 32 * len(names))
    assert set(report.counts['neck']) == {'loaded', 'filled'}


def test_a_mask_head_that_is_missing_is_re_initialised() -> None:
    source, target = build('detr_r50'), build('detr_panoptic_r50', seed=1)
    state, report = weights_for(target, source.state_dict())
    target.load_state_dict(state)
    assert set(report.counts['mask_head']) == {'re-initialised'}
    assert report.total('skipped') == (0, 0)
