"""What must hold of every config of the project, tested on a shrunk copy of its model.

The configs are found on disk: a new one is tested as soon as it is there.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import tiny
import torch
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import from_official, official_names, to_official
from mmdetr_plugin.criterion import Targets
from mmdetr_plugin.criterion.costs import CostInputs
from mmdetr_plugin.heads import DistributionHead
from mmdetr_plugin.queries import EncoderProposals
from mmdetr_plugin.structures import State

DEPENDS_ON_PADDING: dict[str, str] = {
    '(mix_dn_)?sam_detr': 'a region over the edge of the image is read from the memory as it is there',
    r'(mix_dn_)?anchor_detr_.*\d$': 'row-column attention takes means over the whole map',
    'smca_detr_ms|rt_detr|rtdetr|(deim_)?d_fine|deimv2': 'convolutions over the feature maps',
    'tsp_fcos': 'convolutions and norms over the feature maps',
    'tsp_rcnn': 'regions are proposed in padding too',
    '(dn_)?dab_deformable|((group|digits)_)?dino|ddq|lw_detr|rf_detr': (
        'boxes are coded relative to the padded first level'
    ),
}
"""Beginnings, as patterns, of the names of configs whose published model lets padding change an
image's outputs, and how."""

OF_MASKS = {'loss_mask', 'loss_dice'}
ONCE = re.compile('tsp_(fcos|rcnn)')
"""Configs whose head predicts once, after the last layer; their losses read more than boxes and class
logits, and an object without a candidate stays unmatched."""
OWN_LOSSES = {
    'fcos': {'enc_loss_cls', 'loss_cls', 'loss_iou', 'loss_central'},
    'rcnn': {'enc_loss_rpn_cls', 'enc_loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_iou'},
}


@pytest.fixture(scope='module', params=tiny.CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def model(name: str) -> nn.Module:
    """The shrunk model in evaluation mode; a test leaves it as it was."""
    return tiny.build(name)


@pytest.fixture(scope='module')
def outputs(model: nn.Module) -> dict[str, Tensor]:
    """What the model makes of ``tiny.batch()``."""
    with torch.no_grad():
        return model(*tiny.batch(), mode='tensor')


def assert_close(got: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(
            got[key], value, msg=lambda text, key=key: f'{key}: {text}', **tolerance
        )


# ---- the model's face ---------------------------------------------------------------------------


def test_tensor_mode_gives_all_layers(
    name: str, model: nn.Module, outputs: dict[str, Tensor]
) -> None:
    layers, images, queries, columns = outputs['pred_logits'].shape
    assert (layers, images) == (1 if ONCE.match(name) else len(model.decoder.layers), 2)
    assert columns in (tiny.NUM_CLASSES, tiny.NUM_CLASSES + 1)
    assert outputs['pred_boxes'].shape == (layers, images, queries, 4)
    assert set(outputs) <= {'pred_logits', 'pred_boxes', 'enc_logits', 'enc_boxes', 'pred_masks'}
    if 'enc_logits' in outputs:
        assert outputs['enc_boxes'].shape == (*outputs['enc_logits'].shape[:2], 4)
    for key, value in outputs.items():
        assert value.dtype == torch.float32
        assert value.isfinite().all(), key
        within = ((value >= 0) & (value <= 1)).all()
        assert 'boxes' not in key or within or moves_by_its_size(model)


def moves_by_its_size(model: nn.Module) -> bool:
    """Whether boxes are moved in units of their own size, so that they may leave the image."""
    sources = [m for m in model.queries.modules() if isinstance(m, EncoderProposals)]
    return any(source.relative for source in sources) or isinstance(model.head, DistributionHead)


def test_training_mode_gives_the_same(model: nn.Module, outputs: dict[str, Tensor]) -> None:
    with tiny.training(model), torch.no_grad():
        assert_close(model(*tiny.batch(), mode='tensor'), outputs)


def test_samples_are_needed_for_padding_only(model: nn.Module) -> None:
    images, samples = tiny.batch(sizes=(tiny.CANVAS, tiny.CANVAS))
    with torch.no_grad():
        assert_close(model(images, mode='tensor'), model(images, samples, mode='tensor'))


def test_predictions_are_instances(model: nn.Module) -> None:
    images, samples = tiny.batch()
    columns = model.head.class_branches[0].out_features
    with torch.no_grad():
        small = [s.pred_instances for s in model.predict(images, samples, rescale=False)]
        large = [s.pred_instances for s in model.predict(images, samples, rescale=True)]
    for ours, twice in zip(small, large):
        assert len(ours) > 0
        assert ours.bboxes.shape == (len(ours), 4)
        assert ours.labels.dtype == torch.int64
        assert ours.labels.min() >= 0 and ours.labels.max() < columns
        assert ((ours.scores >= 0) & (ours.scores <= 1)).all()
        assert (ours.bboxes[:, 2:] >= ours.bboxes[:, :2]).all()
        # The original images are twice as large as the network's input.
        torch.testing.assert_close(twice.bboxes, 2 * ours.bboxes)


def test_evaluators_get_classes_that_have_names(model: nn.Module) -> None:
    images = [torch.randint(0, 256, (3, *tiny.CANVAS), dtype=torch.uint8)] * 2
    data = {'inputs': images, 'data_samples': tiny.samples((1, 0), (tiny.CANVAS, tiny.CANVAS))}
    for step in (model.val_step, model.test_step):
        for sample in step(data):
            assert len(sample.pred_instances) > 0
            assert sample.pred_instances.labels.max() < tiny.NUM_CLASSES


# ---- training -----------------------------------------------------------------------------------


def expected_losses(name: str, model: nn.Module, outputs: dict[str, Tensor]) -> set[str]:
    if once := ONCE.match(name):
        return OWN_LOSSES[once[1]]
    layers = [f'd{i}.' for i in range(len(outputs['pred_logits']) - 1)] + ['']
    further = ['initial.'] if hasattr(model.head, 'initial') else []
    branches = [part.prefix for part in model.queries.modules() if hasattr(part, 'prefix')]
    own = model.criterion.branches  # these are trained among the encoder's proposals too
    expected = set()
    for branch in ('', *branches):
        losses = own[branch].losses if branch in own else model.criterion.losses
        encoder = ['enc_'] * ('enc_logits' in outputs and (not branch or branch in own))
        for (
            term,
            loss,
        ) in losses.items():  # what further predictions lack, they are not trained with
            prefixes = layers if loss.reads else [*layers, *further, *encoder]
            expected |= {f'{x}{branch}{term}' for x in prefixes if term not in OF_MASKS}
    return expected


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(value for key, value in losses.items() if 'loss' in key)


@pytest.mark.parametrize('counts', [(3, 0), (0, 0), (tiny.MANY, 1)])
def test_every_trainable_parameter_gets_a_gradient(
    name: str, model: nn.Module, outputs: dict[str, Tensor], counts: tuple[int, int]
) -> None:
    assert outputs['pred_logits'].shape[2] < tiny.MANY
    with tiny.training(model):
        losses = model.loss(*tiny.batch(counts))
    keys = {key for key in losses if 'loss' in key}
    assert keys - OF_MASKS == expected_losses(name, model, outputs)
    assert ('loss_mask' in keys) == ('pred_masks' in outputs)
    assert all(value.dim() == 0 for value in losses.values())
    total(losses).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    model.zero_grad()
    assert gradients
    assert [n for n, grad in gradients.items() if grad is None] == []
    assert [n for n, grad in gradients.items() if not grad.isfinite().all()] == []
    unmatched = sum(max(count - outputs['pred_logits'].shape[2], 0) for count in counts)
    assert losses['unmatched_gt'] == unmatched or ONCE.match(name)


def test_criterion_does_not_see_a_flip(
    name: str, model: nn.Module, outputs: dict[str, Tensor]
) -> None:
    if ONCE.match(name):
        pytest.skip('the losses read more than boxes and class logits')
    targets = Targets.from_samples(tiny.batch()[1], tiny.NUM_CLASSES)
    turned = {key: flip(value, key) for key, value in outputs.items()}
    boxes = tuple(flip(box, 'boxes') for box in targets.boxes)
    masks = tuple(mask.pad(targets.canvas).flip('horizontal') for mask in targets.masks)
    criterion = copy.deepcopy(model.criterion)
    for name, loss in model.criterion.losses.items():
        if loss.reads:  # more than the outputs have
            del criterion.losses[name]
    expected = criterion(outputs, targets)
    assert_close(criterion(turned, replace(targets, boxes=boxes, masks=masks)), expected)


def flip(value: Tensor, key: str) -> Tensor:
    """Mirror cxcywh boxes (..., 4) or masks (..., H, W) left to right."""
    if 'masks' in key:
        return value.flip(-1)
    return torch.cat((1 - value[..., :1], value[..., 1:]), -1) if 'boxes' in key else value


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision(
    name: str, model: nn.Module, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is finite and near single precision; places, their codes and costs are in it."""
    images, samples = tiny.batch()
    exact: dict[str, Tensor] = {}

    def watch(module: nn.Module, args: tuple, state: State | None = None) -> None:
        state, memory = state or args[0], args[1]
        places = None if state.ref is None else state.ref.values
        exact.update({'reference': places, 'codes': memory.pos, 'ratios': memory.valid_ratios})
        assert_single(exact)

    def cost_of(cost: Callable) -> Callable:
        def call(inputs: CostInputs) -> Tensor:
            exact['cost'] = cost(inputs)
            return exact['cost']

        return call

    layers = model.decoder.layers
    hooks = [layer.register_forward_hook(watch) for layer in layers]
    hooks.append(layers[0].register_forward_pre_hook(watch))
    assigner = model.criterion.assigner
    with tiny.fixed_selection(model):
        expected = model(images, samples, mode='tensor')
        monkeypatch.setattr(assigner, 'costs', [cost_of(cost) for cost in assigner.costs])
        with torch.autocast('cpu', dtype):
            got = model(images, samples, mode='tensor')
            losses = model.loss(images, samples)
    for hook in hooks:
        hook.remove()
    assert 'cost' in exact
    assert_single({**exact, **losses, **{k: v for k, v in got.items() if 'boxes' in k}})
    total(losses).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    assert all(value.isfinite().all() for value in got.values())
    assert all(value.isfinite() for value in losses.values())
    assert all(grad.isfinite().all() for grad in gradients)
    if 'rcnn' not in name:  # whose regions, and their order, depend on the precision
        assert (got['pred_boxes'] - expected['pred_boxes']).abs().max() < 0.05


def assert_single(tensors: dict[str, Tensor | None]) -> None:
    for name, tensor in tensors.items():
        assert tensor is None or tensor.dtype == torch.float32, name


# ---- symmetries ---------------------------------------------------------------------------------


def test_outputs_follow_a_permutation_of_the_queries(
    model: nn.Module, outputs: dict[str, Tensor]
) -> None:
    number = outputs['pred_logits'].shape[2]
    order = torch.randperm(number, generator=torch.Generator().manual_seed(5))
    with torch.no_grad(), tiny.changed_state(model, lambda s: tiny.permute_queries(s, order)):
        permuted = model(*tiny.batch(), mode='tensor')
    for key in ('pred_logits', 'pred_boxes', 'pred_masks'):
        if key in outputs:
            expected = outputs[key].index_select(-2 if 'masks' not in key else 1, order)
            torch.testing.assert_close(permuted[key], expected, rtol=1e-4, atol=1e-5)


def test_padding_after_the_neck(name: str, model: nn.Module) -> None:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(6))
    selected = order[None, : tiny.NUM_QUERIES]  # for two stages: their choice may fall on padding
    alone, padded = (tiny.decode_features(model, cells, selected) for cells in ((0, 0), (1, 2)))
    difference = max((alone[key] - padded[key]).abs().max().item() for key in alone)
    reason = next((why for start, why in DEPENDS_ON_PADDING.items() if re.match(start, name)), '')
    assert (difference > 1e-3) if reason else (difference < 1e-4), reason


# ---- checkpoints --------------------------------------------------------------------------------


def test_official_names_are_unique(model: nn.Module) -> None:
    names = [n for each in official_names(model, model.layout).values() for n in each]
    assert len(set(names)) == len(names)


def test_state_dict_goes_to_the_official_layout_and_back(
    model: nn.Module, outputs: dict[str, Tensor]
) -> None:
    state = model.state_dict()
    official = to_official(state, model)
    back = from_official(official, model)
    assert set(back) == set(state)
    assert all(torch.equal(back[key], value) for key, value in state.items())
    again = to_official(back, model)
    assert set(again) == set(official)
    assert all(torch.equal(again[key], value) for key, value in official.items())
    other = tiny.randomise_(copy.deepcopy(model), seed=1)
    other.load_state_dict(back)
    with torch.no_grad():
        assert_close(other(*tiny.batch(), mode='tensor'), outputs, rtol=0.0, atol=0.0)
