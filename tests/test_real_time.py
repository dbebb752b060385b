"""The parts of RT-DETR: hybrid encoder, sampling, varifocal loss, position codes, folding."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch
from mmdet.models.layers import ExpMomentumEMA
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn import functional as F

from mmdetr_plugin.attention import DeformableAttention
from mmdetr_plugin.checkpoints import to_official
from mmdetr_plugin.checkpoints.convert import unwrap
from mmdetr_plugin.criterion import Targets, VarifocalClassLoss
from mmdetr_plugin.datasets import BatchRandomResize
from mmdetr_plugin.deployment import fold_for_deployment_
from mmdetr_plugin.engine.hooks import BatchAugmentHook
from mmdetr_plugin.ops.deformable import sample_grid
from mmdetr_plugin.ops.deformable_cells import sample_cells
from mmdetr_plugin.positions import CellPosition
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.transformer import RepVGGBlock

NAMES = ('rt_detr_r18', 'rt_detr_r50_m', 'rt_detr_r101', 'rtdetrv2_r18_discrete')


def randomise_norms_(model: nn.Module) -> nn.Module:
    """Statistics that are not 0 and 1, so that folding changes weights."""
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model


# ---- folding ------------------------------------------------------------------------------------


def test_repvgg_is_one_convolution_in_evaluation() -> None:
    block = randomise_norms_(tiny.randomise_(RepVGGBlock(6, 4)))
    x = torch.randn(2, 6, 5, 7)
    for part in block.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()  # in training mode of the block, both branches run
    expected = block(x)
    block.eval()
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
    block.fold_()
    assert [type(m) for m in block.modules() if isinstance(m, nn.Conv2d)] == [nn.Conv2d]
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_folding_changes_nothing(name: str) -> None:
    model = randomise_norms_(tiny.build(name))
    folded = fold_for_deployment_(copy.deepcopy(model))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    images, samples = tiny.batch(sizes=(tiny.CANVAS, tiny.CANVAS))
    with torch.no_grad(), tiny.fixed_selection(model), tiny.fixed_selection(folded):
        expected = model(images, samples, mode='tensor')
        got = folded(images, samples, mode='tensor')
    for key, value in expected.items():
        assert (got[key] - value).abs().max() < 1e-4, key


# ---- sampling -----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['rt_detr_r18', 'd_fine_s'])
@pytest.mark.parametrize('number', [1, 2])
def test_convolutions_need_not_reorder_their_maps(name: str, number: int) -> None:
    model = tiny.build(name).eval()
    seen = []

    def check(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    for part in model.encoder.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_pre_hook(check)
    model.run(torch.randn(number, 3, 160, 160))
    assert seen and all(seen)


def test_points_of_levels_may_differ() -> None:
    """As with equally many points on all levels, of which some have no weight."""
    shapes, points = ((7, 5), (3, 2), (2, 2)), (1, 3, 2)
    torch.manual_seed(0)
    layer = DeformableAttention(16, 2, num_levels=3, num_points=points)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    tokens = torch.randn(1, 45, 16)
    query, boxes = torch.randn(1, 4, 16), 0.2 + 0.5 * torch.rand(1, 4, 3, 4)
    got = layer.sample(query, boxes, tokens, None, shapes)

    weights = layer.attention_weights(query).unflatten(-1, (2, 6)).softmax(-1).split(points, -1)
    offsets = layer.sampling_offsets(query).unflatten(-1, (2, 6, 2)).split(points, -2)
    padded_weights = torch.stack([F.pad(w, (0, 3 - w.shape[-1])) for w in weights], 3)
    places = []
    for i, (offset, number) in enumerate(zip(offsets, points, strict=True)):
        box = boxes[:, :, None, None, i]
        place = box[..., :2] + offset / number * box[..., 2:] * 0.5
        places.append(F.pad(place, (0, 0, 0, 3 - number)))
    value = layer.value_proj(tokens).unflatten(-1, (2, 8))
    expected = sample_grid(value, shapes, torch.stack(places, 3), padded_weights)
    torch.testing.assert_close(got, layer.output_proj(expected), rtol=1e-4, atol=1e-5)


def test_a_number_for_each_level_is_needed() -> None:
    with pytest.raises(ValueError, match=r'num_levels=3, got \[4, 4\]'):
        DeformableAttention(16, 2, num_levels=3, num_points=(4, 4))


def test_heads_may_read_the_memory_itself() -> None:
    layer = DeformableAttention(16, 2, num_levels=1, num_points=2, projected=False)
    assert {name.split('.')[0] for name, _ in layer.named_parameters()} == {
        'sampling_offsets',
        'attention_weights',
    }
    tokens = torch.randn(1, 1, 16)  # of a map with one cell, read in its centre
    nn.init.zeros_(layer.sampling_offsets.bias)
    point = torch.full((1, 1, 1, 2), 0.5)
    got = layer.sample(torch.randn(1, 1, 16), point, tokens, None, ((1, 1),))
    torch.testing.assert_close(got, tokens)


def test_cells_are_read_whole() -> None:
    shapes = ((3, 5), (2, 2))
    torch.manual_seed(0)
    value = torch.randn(2, 19, 2, 4, requires_grad=True)
    locations = torch.rand(2, 3, 2, 2, 4, 2) * 1.4 - 0.2  # some outside of the maps
    weights = torch.rand(2, 3, 2, 2, 4)
    got = sample_cells(value, shapes, locations, weights)
    for b, n, h in ((0, 0, 0), (1, 2, 1), (0, 1, 1)):
        expected, start = torch.zeros(4), 0
        for level, (rows, columns) in enumerate(shapes):
            for point in range(4):
                x, y = locations[b, n, h, level, point].tolist()
                column = min(max(int(x * columns + 0.5), 0), columns - 1)
                row = min(max(int(y * rows + 0.5), 0), rows - 1)
                cell = value[b, start + row * columns + column, h]
                expected = expected + weights[b, n, h, level, point] * cell
            start += rows * columns
        torch.testing.assert_close(got[b, n, h * 4 : h * 4 + 4], expected)


# ---- codes, loss, layers ------------------------------------------------------------------------


def test_codes_are_of_rows_then_columns() -> None:
    code = CellPosition(8).grid(torch.zeros(1, 3, 5, dtype=torch.bool))[0]
    row, column = 2, 4
    angles = [(place, place / 100) for place in (row, column)]  # 10000^(-1/2)
    expected = [f(a) for pair in angles for f in (math.sin, math.cos) for a in pair]
    torch.testing.assert_close(code[row, column], torch.tensor(expected))


def test_varifocal_loss_is_its_definition() -> None:
    torch.manual_seed(0)
    logits, iou = torch.randn(2, 4, 3, requires_grad=True), torch.rand(2, 2)
    query, labels = torch.tensor([[0, 2], [1, 3]]), torch.tensor([[1, 0], [2, 2]])
    matched = SimpleNamespace(
        logits=logits,
        iou=iou,
        query=query,
        labels=labels,
        trained=None,
        weights=None,
        num_boxes=2.0,
    )
    got = VarifocalClassLoss(loss_weight=3.0)(matched)
    target = torch.zeros(2, 4, 3)
    for layer in range(2):
        target[layer, query[layer], labels[layer]] = iou[layer]
    weight = torch.where(target > 0, target, 0.75 * logits.detach().sigmoid() ** 2)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weight, reduction='none')
    expected = 3 * entropy.sum((1, 2)) / 2
    torch.testing.assert_close(got, expected)
    grads = [torch.autograd.grad(x.sum(), logits)[0] for x in (got, expected)]
    torch.testing.assert_close(*grads)


def detections(model: nn.Module) -> Tensor:
    images, samples = tiny.batch(sizes=(tiny.CANVAS, tiny.CANVAS))
    with torch.no_grad():
        found = model.predict(images, samples, rescale=False)
    return torch.stack([x.pred_instances.scores for x in found])


def test_detections_come_from_the_layer_that_is_chosen() -> None:
    """Later layers serve training alone: without them the detections are the same."""
    model = tiny.build('rt_detr_r50_m')
    assert model.decoder.eval_layer < len(model.decoder.layers) - 1
    expected = detections(model)
    last = tiny.build('rt_detr_r50_m')
    nn.init.constant_(last.head.class_branches[-2].bias, 9.0)
    torch.testing.assert_close(detections(last), expected)
    nn.init.constant_(last.head.class_branches[0].bias, 9.0)
    assert (detections(last) - expected).abs().max() > 0.1


def test_the_layer_that_is_chosen_exists() -> None:
    decoder = tiny.load('rt_detr_r50').model.decoder
    with pytest.raises(ValueError, match='eval_layer must be in'):
        tiny.build('rt_detr_r50', decoder={**decoder, 'num_layers': 2, 'eval_layer': 2})


def test_another_width_needs_an_encoder_that_changes_it() -> None:
    with pytest.raises(ValueError, match='encoder_dims=48'):
        tiny.build('deformable_detr_r50', encoder_dims=48)
    cfg = tiny.shrink(tiny.load('rt_detr_r101').model)
    cfg.encoder.projected = False
    with pytest.raises(ValueError, match='projected must be True'):
        MODELS.build(cfg)


def test_averaged_weights_are_preferred() -> None:
    averaged, trained = torch.ones(1), torch.zeros(1)
    file = {'model': {'a': trained}, 'ema': {'module': {'a': averaged}, 'updates': 7}}
    assert unwrap(file)['a'] is averaged
    assert unwrap({'model': {'module.a': trained}})['a'] is trained


# ---- backbone, data and schedule ----------------------------------------------------------------


@pytest.mark.parametrize('name', ['rt_detr_r18', 'rt_detr_r50'])
def test_imagenet_weights_are_read_by_their_names(name: str, tmp_path: Path) -> None:
    source = tiny.build(name)
    official = to_official(source.state_dict(), source)
    published = {
        key.removeprefix('backbone.'): value
        for key, value in official.items()
        if key.startswith('backbone.')
    }
    assert any(key.startswith('conv1.conv1_1.') for key in published)
    torch.save(published, tmp_path / 'weights.pth')
    backbone = tiny.build(name, seed=1).backbone
    backbone.init_cfg = {'type': 'Pretrained', 'checkpoint': str(tmp_path / 'weights.pth')}
    backbone.init_weights()
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value) or 'num_batches' in key, key


def test_a_batch_gets_another_size_with_its_objects() -> None:
    images, samples = tiny.batch(sizes=(tiny.CANVAS, (32, 48)))
    before = Targets.from_samples(samples, tiny.NUM_CLASSES)
    resized, samples = BatchRandomResize([96])(images, samples)
    assert resized.shape == (2, 3, 96, 96)
    assert [sample.img_shape for sample in samples] == [(96, 96), (48, 48)]
    after = Targets.from_samples(samples, tiny.NUM_CLASSES)
    for boxes, expected in zip(after.boxes, before.boxes, strict=True):
        torch.testing.assert_close(boxes, expected)
    assert samples[0].gt_instances.masks.masks.shape[1:] == (96, 96)
    with pytest.raises(ValueError, match='sizes must be positive'):
        BatchRandomResize([])


def test_batches_are_changed_in_some_epochs_only() -> None:
    hook = BatchAugmentHook({'type': 'BatchRandomResize', 'sizes': [96]}, begin=1, end=3)
    preprocessor = SimpleNamespace(batch_augments=None)
    model = SimpleNamespace(data_preprocessor=preprocessor)
    active = []
    for epoch in range(5):
        hook.before_train_epoch(SimpleNamespace(model=model, epoch=epoch, max_epochs=5))
        active.append(len(preprocessor.batch_augments))
    assert active == [0, 1, 1, 0, 0]


def test_norms_of_a_backbone_with_its_own_rate_do_not_decay() -> None:
    cfg = tiny.load('rt_detr_r18')
    model = tiny.build('rt_detr_r18')
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    seen = {
        id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']
    }
    assert seen[id(model.backbone.layer1[0].bn1.weight)] == pytest.approx((1e-5, 0))
    assert seen[id(model.backbone.layer1[0].conv1.weight)] == pytest.approx((1e-5, 1e-4))
    assert seen[id(model.decoder.layers[0].ffn.linear1.weight)] == pytest.approx((1e-4, 1e-4))
    assert seen[id(model.decoder.layers[0].ffn.linear1.bias)] == pytest.approx((1e-4, 0))


def test_the_average_follows_the_published_decay() -> None:
    """0.9999 (1 - exp(-t / 2000)) after t updates."""
    average = Config.fromfile(tiny.ROOT / 'configs/_base_/schedules/average.py').average
    options = {k: v for k, v in average.items() if k in ('momentum', 'gamma')}
    weights = nn.Linear(1, 1, bias=False)
    ema = ExpMomentumEMA(weights, **options)
    nn.init.zeros_(weights.weight)
    nn.init.ones_(ema.module.weight)
    expected = 1.0
    ema.steps.fill_(1)  # the first update only copies
    for update in range(2, 6):
        ema.update_parameters(weights)
        expected *= 0.9999 * (1 - math.exp(-update / 2000))
        # The onedl fork rounds otherwise.
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-4)
