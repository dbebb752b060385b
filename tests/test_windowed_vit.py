"""The windowed ViT, the projector, proposals in units of their size, and the loss of LW-DETR."""

from __future__ import annotations

import pytest
import tiny
import torch
from criterion_cases import FOCAL_COSTS, make_criterion, make_outputs, make_targets
from torch import nn
from torch.nn import functional as F

from mmdetr_plugin.backbones import WindowedViT
from mmdetr_plugin.criterion import HungarianAssigner, IoUAwareClassLoss
from mmdetr_plugin.heads import SetHead
from mmdetr_plugin.necks import MultiScaleProjector
from mmdetr_plugin.ops.boxes import cxcywh_to_xyxy, elementwise_iou
from mmdetr_plugin.positions.maps import SinePosition
from mmdetr_plugin.queries import EncoderProposals
from mmdetr_plugin.testing.peers import randomise_
from mmdetr_plugin.transformer.embedding import embed_maps

VITS = [name for name in tiny.CONFIGS if name.startswith(('lw_detr', 'rf_detr'))]


def vit(**options: object) -> WindowedViT:
    size = dict(embed_dims=16, depth=2, num_heads=2, patch_size=4, windows=2, grid_size=3)
    blocks = dict(global_blocks=(1,), out_indices=(0, 1))
    return randomise_(WindowedViT(**{**size, **blocks, **options})).eval()


def images(height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('class_token', [False, True])
def test_windows_separate_until_a_block_joins_them(class_token: bool) -> None:
    backbone = vit(class_token=class_token)
    changed = images()
    changed[:, :, :8, 12:] += 1  # the upper right of 2 x 2 windows
    with torch.no_grad():
        pairs = zip(backbone(images()), backbone(changed), strict=True)
        first, second = ((a - b).abs().amax((0, 1)) for a, b in pairs)
    assert first.shape == second.shape == (4, 6)
    inside = torch.zeros(4, 6, dtype=torch.bool)
    inside[:2, 3:] = True
    assert (first[inside] > 0).all() and (first[~inside] == 0).all()
    assert (second > 0).all()


@pytest.mark.parametrize('key_bias', [False, True])
def test_a_block_that_joins_all_windows_knows_none(key_bias: bool) -> None:
    """Without copies of a token, the number of windows then does not matter."""
    options = dict(global_blocks=(0, 1), key_bias=key_bias)
    several, one = vit(windows=2, **options), vit(windows=1, **options)
    one.load_state_dict(several.state_dict())
    with torch.no_grad():
        for a, b in zip(several(images()), one(images()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_position_codes_are_resized_to_the_image() -> None:
    backbone = vit()
    grid = backbone.pos_embed[0, 1:].T.unflatten(1, (3, 3))
    assert torch.equal(backbone._position_codes(3, 3)[0], grid)
    codes = backbone._position_codes(4, 6)
    assert codes.shape == (1, 16, 4, 6)
    assert not torch.allclose(vit(antialias=True)._position_codes(4, 6), codes, atol=1e-3)


def test_blocks_that_nothing_reads_are_not_trained() -> None:
    backbone = vit(depth=4)
    read = [any(p.requires_grad for p in block.parameters()) for block in backbone.blocks]
    assert read == [True, True, False, False]
    with torch.no_grad():
        before = backbone(images())
        randomise_(backbone.blocks[2:], seed=1)
        assert all(torch.equal(a, b) for a, b in zip(before, backbone(images())))


@pytest.mark.parametrize('size', [(12, 24), (16, 20)])
def test_images_must_divide_into_windows(size: tuple[int, int]) -> None:
    text = r'must be multiples of 8 pixels .*; resize them, or set data_preprocessor.pad_size_div'
    with pytest.raises(ValueError, match=text):
        vit()(images(*size))


@pytest.mark.parametrize('options', [{'out_indices': (2,)}, {'global_blocks': (-1,)}])
def test_blocks_must_exist(options: dict) -> None:
    with pytest.raises(ValueError, match='must be numbers of blocks, 0 to 1'):
        vit(**options)


@pytest.mark.parametrize('name', [*VITS, *(f for f in tiny.FINETUNE if 'rf_detr' in f)])
def test_all_images_of_a_config_divide_into_windows(name: str) -> None:
    cfg = tiny.load(name)
    side = cfg.model.backbone.patch_size * cfg.model.backbone.windows
    assert cfg.model.data_preprocessor.pad_size_divisor == side
    for hook in (h for h in cfg.custom_hooks if h.type == 'mmdetr_plugin.BatchAugmentHook'):
        sizes = hook.augment.sizes
        assert all(size % side == 0 for size in sizes)
        assert max(sizes) == cfg.train_dataloader.dataset.pipeline[4].scale[0]
        assert cfg.val_dataloader.dataset.pipeline[1].scale[0] in sizes
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        (resize,) = (step for step in loader.dataset.pipeline if 'Resize' in step.type)
        scales = resize.get('scales') or [resize.scale]
        assert not resize.keep_ratio
        assert all(width == height and width % side == 0 for width, height in scales)


@pytest.mark.parametrize('norm', ['BN', 'LN'])
def test_levels_of_the_projector(norm: str) -> None:
    neck = MultiScaleProjector([8, 8, 8], 12, 3, scales=(2.0, 1.0, 0.5), norm=norm)
    maps = [torch.randn(2, 8, 4, 6) for _ in range(3)]
    levels = neck(maps)
    assert [tuple(level.shape) for level in levels] == [
        (2, 12, 8, 12),
        (2, 12, 4, 6),
        (2, 12, 2, 3),
    ]
    for level in levels:  # a layer norm is last
        torch.testing.assert_close(level.mean(1), torch.zeros(level[:, 0].shape), atol=1e-5, rtol=0)
    sum(level.square().sum() for level in neck(maps)).backward()
    assert all(p.grad is not None for p in neck.parameters())


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'scales': (1.0, 0.5)}, r'for each of the 1 levels, got \(1.0, 0.5\)'),
        ({'scales': (4.0,)}, 'neck.scales must be one of 2, 1 and 0.5'),
        ({'norm': 'GN'}, r"neck.norm must be one of \['BN', 'LN'\], got 'GN'"),
    ],
)
def test_bad_options_of_the_projector(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MultiScaleProjector([8], 8, 1, **options)


def relative_source(number: int) -> tuple[EncoderProposals, SetHead]:
    options = dict(score='best_class', content='learned', position_from_box=False)
    source = EncoderProposals(number, 8, relative=True, learned_shift=True, **options)
    head = SetHead(3, 8, num_layers=2, encoder=True, encoder_classes=True)
    return randomise_(source), randomise_(head)


def test_tokens_without_an_anchor_come_last() -> None:
    """The lower half of the image is padding."""
    maps = [torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))]
    memory = embed_maps(maps, SinePosition(8), [(16, 32)], (32, 32))
    source, head = relative_source(12)
    with torch.no_grad():
        nn.init.zeros_(source.shift.weight)
        boxes = source(memory, head)[0].ref.unit()[0]
        assert (boxes[:8, 2:] > 0).all() and (boxes[8:] == 0).all()
        anchors, valid = source.anchors(memory)
        assert valid.sum() == 8 and (anchors.unit()[~valid[..., 0]] == 0).all()
        torch.testing.assert_close(anchors.unit()[0, 0], torch.tensor([0.125, 0.25, 0.05, 0.05]))


def test_references_are_shifted_by_rank() -> None:
    memory = embed_maps([torch.randn(2, 8, 4, 4)], SinePosition(8), [(32, 32)] * 2, (32, 32))
    source, head = relative_source(5)
    moved = source(memory, head)[0].ref.unit()
    shift = source.shift.weight.detach().clone()
    nn.init.zeros_(source.shift.weight)
    still = source(memory, head)[0].ref.unit()
    torch.testing.assert_close(moved[..., :2], still[..., :2] + shift[:, :2] * still[..., 2:])
    torch.testing.assert_close(moved[..., 2:], still[..., 2:] * shift[:, 2:].exp())
    moved.sum().backward()
    assert source.shift.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('counts', [(2, 3), (0, 0)])
def test_class_loss_is_the_papers(counts: tuple[int, int]) -> None:
    criterion = make_criterion(
        loss_cls=IoUAwareClassLoss(loss_weight=1.5), assigner=HungarianAssigner(FOCAL_COSTS)
    )
    outputs, targets = make_outputs(), make_targets(counts)
    losses = criterion(outputs, targets)
    matches = criterion.match(outputs, targets)
    for layer, prefix in enumerate(('d0.', 'd1.', '')):
        prob = outputs['pred_logits'][layer].sigmoid()
        target, weight = torch.zeros_like(prob), prob**2
        for image, (queries, objects) in enumerate(matches[prefix]):
            for query, number in zip(queries.tolist(), objects.tolist()):
                label = targets.labels[image][number]
                pair = outputs['pred_boxes'][layer, image, query], targets.boxes[image][number]
                iou = elementwise_iou(*(cxcywh_to_xyxy(box[None]) for box in pair))[0]
                score = prob[image, query, label]
                target[image, query, label] = (score**0.25 * iou**0.75).clamp(min=0.01)
                weight[image, query, label] = 1.0
        target = target.detach()
        expected = weight * F.binary_cross_entropy(prob, target, reduction='none')
        value = 1.5 * expected.sum() / max(sum(counts), 1)
        torch.testing.assert_close(losses[f'{prefix}loss_cls'], value)
    gradient = torch.autograd.grad(losses['loss_cls'], outputs['pred_logits'])[0]
    assert gradient.isfinite().all() and gradient[-1].abs().sum() > 0
