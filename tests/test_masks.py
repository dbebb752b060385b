"""The mask head, its losses, and instance masks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from mask_cases import JOINT, NUM_THINGS, gradients
from torch import Tensor, nn
from torch.nn import functional as F

from mmdetr_plugin.criterion import MaskDiceLoss, MaskFocalLoss, Targets
from mmdetr_plugin.heads import AttentionMaskHead, Features
from mmdetr_plugin.heads.mask_head import AttentionMasks
from mmdetr_plugin.structures import Masks, Memory, Prediction


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return tiny.build(JOINT)


@pytest.fixture(scope='module')
def outputs(model: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(*tiny.batch(), mode='tensor')


# ---- the mask head ------------------------------------------------------------------------------


def test_masks_have_the_resolution_of_the_finest_map(outputs: dict[str, Tensor]) -> None:
    height, width = tiny.CANVAS
    assert outputs['pred_masks'].shape == (2, tiny.NUM_QUERIES, height // 4, width // 4)


def memory_of(batch: int, height: int, width: int) -> Memory:
    """One level of 32 channels; the last column of the first image is padding."""
    tokens = torch.randn(batch, height * width, 32)
    mask = torch.zeros(batch, height, width, dtype=torch.bool)
    mask[0, :, -1] = True
    ratios, sizes = torch.ones(batch, 1, 2), torch.ones(batch, 2)
    flat = mask.flatten(1)
    return Memory(tokens, torch.zeros_like(tokens), flat, ((height, width),), ratios, sizes)


def head_and_inputs(chunk: int) -> tuple[AttentionMaskHead, tuple[Prediction], Features]:
    torch.manual_seed(0)
    head = tiny.randomise_(AttentionMaskHead([4, 6, 8], embed_dims=32, num_heads=4, chunk=chunk))
    embedded = memory_of(2, 2, 3)
    memory = replace(embedded, tokens=torch.randn_like(embedded.tokens))
    sizes = ((4, (16, 24)), (6, (8, 12)), (8, (4, 6)))
    features = Features(tuple(torch.randn(2, c, *size) for c, size in sizes), embedded, memory)
    logits, boxes, hidden = torch.randn(2, 7, 5), torch.rand(2, 7, 4), torch.randn(2, 7, 32)
    return head, (Prediction(logits, boxes, hidden),), features


def test_attention_is_one_distribution_over_heads_and_places() -> None:
    head, (prediction,), features = head_and_inputs(chunk=4)
    maps = head.attention(prediction.hidden, features.memory)
    assert maps.shape == (2, 7, 4, 2, 3)
    torch.testing.assert_close(maps.sum((2, 3, 4)), torch.ones(2, 7))
    assert (maps[0, ..., -1] == 0).all() and (maps[0, ..., :-1] > 0).all() and (maps[1] > 0).all()


def test_attention_near_boxes_lies_in_the_boxes() -> None:
    head, (prediction,), features = head_and_inputs(chunk=4)
    head.near_boxes, size = True, (8, 12)
    memory = replace(memory_of(2, *size), valid_ratios=torch.tensor([[[0.5, 1.0]], [[1.0, 1.0]]]))
    boxes = torch.tensor([0.75, 0.25, 0.25, 0.25]).expand(2, 7, 4)
    inputs = replace(prediction, boxes=boxes), replace(features, memory=memory, embedded=memory)
    masks = head((inputs[0],), inputs[1])
    assert isinstance(masks, AttentionMasks)
    maps = masks.attention.unflatten(0, (2, 7))
    torch.testing.assert_close(maps.mean((2, 3, 4)), torch.ones(2, 7))  # multiples of the mean
    columns = torch.arange(size[1]) + 0.5
    centres = (maps * columns).sum((2, 3, 4)) / maps.sum((2, 3, 4))
    # The left half of the first image is all that is not padding.
    torch.testing.assert_close(centres[:, 0], torch.tensor([4.5, 9.0]), rtol=0, atol=0.6)
    plain = head.attention(prediction.hidden, memory)
    plain_share = plain[:, :, :, :5].sum() / plain.sum()
    assert maps[:, :, :, :5].sum() / maps.sum() > 0.9 > plain_share + 0.1


@pytest.mark.parametrize('chunk', [1, 3, 14])
def test_chunks_change_neither_masks_nor_gradients(chunk: int) -> None:
    head, *inputs = head_and_inputs(chunk=100)
    expected = head(*inputs).dense()
    expected.square().sum().backward()
    grads = [p.grad.clone() for p in head.parameters()]
    head.zero_grad()
    head.chunk = chunk
    got = head(*inputs).dense()
    got.square().sum().backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close([p.grad for p in head.parameters()], grads, rtol=1e-3, atol=1e-4)


def test_chunks_bound_what_is_kept_for_the_gradient() -> None:
    def kept(chunk: int) -> int:
        head, *inputs = head_and_inputs(chunk)
        sizes = []

        def pack(x: Tensor) -> Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            head(*inputs).dense()
        return sum(sizes)

    assert kept(chunk=2) < kept(chunk=100) / 4


def test_some_masks_are_those_of_all() -> None:
    head, *inputs = head_and_inputs(chunk=4)
    index = torch.tensor([9, 0, 13, 3, 3])
    with torch.no_grad():
        masks = head(*inputs)
        torch.testing.assert_close(masks.select(index), masks.dense().flatten(0, 1)[index])


def test_masks_are_those_of_the_last_prediction() -> None:
    head, (prediction,), features = head_and_inputs(chunk=4)
    other = replace(prediction, hidden=-prediction.hidden)
    with torch.no_grad():
        alone, last, first = (
            head(predictions, features).dense()
            for predictions in ((prediction,), (other, prediction), (prediction, other))
        )
    assert torch.equal(last, alone)
    assert not torch.allclose(first, alone)


def test_channels_come_from_the_backbone(model: nn.Module) -> None:
    assert [conv.in_channels for conv in model.mask_head.adapters] == [32, 16, 8]


def test_another_number_of_maps_is_told() -> None:
    head, predictions, features = head_and_inputs(chunk=4)
    with pytest.raises(ValueError, match='built for 3 maps of the backbone, got 2; make backbone'):
        head(predictions, replace(features, levels=features.levels[1:]))


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'chunk': 0}, r'mask_head\.chunk must be 1 or more, got 0; change it'),
        ({'embed_dims': 8}, r'embed_dims must be at least 16 .* reads 3 maps, got 8; change it'),
    ],
)
def test_sizes_out_of_range(settings: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        AttentionMaskHead([4, 6, 8], **{'embed_dims': 32, **settings})


# ---- losses -------------------------------------------------------------------------------------


def test_focal_and_dice_by_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(4, 30, generator=generator)
    target = torch.rand(4, 30, generator=generator) < 0.3
    prob, t = logits.sigmoid(), target.float()
    p_t = prob * t + (1 - prob) * (1 - t)
    focal = -(0.25 * t + 0.75 * (1 - t)) * (1 - p_t) ** 2 * p_t.log()
    torch.testing.assert_close(MaskFocalLoss().elementwise(logits, target), focal.mean(1))
    dice = 1 - (2 * (prob * t).sum(1) + 1) / (prob.sum(1) + t.sum(1) + 1)
    torch.testing.assert_close(MaskDiceLoss().elementwise(logits, target), dice)
    # mmdet's convention: a weight per mask and a divisor.
    got = MaskDiceLoss(loss_weight=2.0)(logits, target, torch.tensor([1.0, 0, 0, 1]), avg_factor=4)
    torch.testing.assert_close(got, 2 * (dice[0] + dice[3]) / 4)


def test_only_masks_of_matched_queries_are_computed(model: nn.Module) -> None:
    images, samples = tiny.batch()
    asked = []

    class Spy(Masks):
        def __init__(self, masks: Masks) -> None:
            self.masks = masks

        def select(self, index: Tensor) -> Tensor:
            asked.append(len(index))
            return self.masks.select(index)

    handle = model.mask_head.register_forward_hook(lambda _, inputs, masks: Spy(masks))
    try:
        model.loss(images, samples)
    finally:
        handle.remove()
    assert asked == [4]  # objects of the batch


def test_losses_are_those_of_all_masks(model: nn.Module) -> None:
    images, samples = tiny.batch()
    expected = model.loss(images, samples)
    targets = Targets.from_samples(samples, tiny.NUM_CLASSES)
    got = model.criterion(model(images, samples, mode='tensor'), targets)
    tiny_gradients = [gradients(model, losses) for losses in (got, expected)]
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(*tiny_gradients, rtol=1e-3, atol=1e-4)


def test_mask_losses_by_hand(model: nn.Module, outputs: dict[str, Tensor]) -> None:
    samples = tiny.batch()[1]
    targets = Targets.from_samples(samples, tiny.NUM_CLASSES)
    losses = model.criterion(outputs, targets)
    focal, dice = [], []
    for i, (query, objects) in enumerate(model.criterion.match(outputs, targets)['']):
        wide = F.interpolate(outputs['pred_masks'][i][None], size=tiny.CANVAS, mode='bilinear')[0]
        masks = torch.zeros(len(objects), *tiny.CANVAS)  # padding counts as background
        height, width = samples[i].img_shape
        masks[:, :height, :width] = samples[i].gt_instances.masks.to_tensor(torch.float32, 'cpu')[
            objects
        ]
        pair = wide[query].flatten(1), masks.flatten(1)
        focal.append(MaskFocalLoss().elementwise(*pair))
        dice.append(MaskDiceLoss().elementwise(*pair))
    torch.testing.assert_close(losses['loss_mask'], torch.cat(focal).sum() / 4)
    torch.testing.assert_close(losses['loss_dice'], torch.cat(dice).sum() / 4)


def test_many_masks_go_through_in_parts(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for size in (100, 3):
        monkeypatch.setattr('mmdetr_plugin.criterion.masks._CHUNK', size)
        losses = model.loss(*tiny.batch((6, 4)))
        results.append((losses, gradients(model, losses)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['tensor', 'array', 'padded'])
def test_masks_may_come_in_any_form(model: nn.Module, kind: str) -> None:
    images, samples = tiny.batch()
    expected = model.loss(images, samples)
    for sample in samples:
        masks = sample.gt_instances.masks
        changed = {
            'tensor': lambda m: m.to_tensor(torch.bool, 'cpu'),
            'array': lambda m: m.to_ndarray(),
            'padded': lambda m: m.pad(tiny.CANVAS),
        }[kind](masks)
        sample.gt_instances.masks = changed
    torch.testing.assert_close(model.loss(images, samples), expected)


def test_an_image_without_objects_needs_no_masks(model: nn.Module) -> None:
    images, samples = tiny.batch((3, 0))
    expected = model.loss(images, samples)
    del samples[1].gt_instances.masks
    torch.testing.assert_close(model.loss(images, samples), expected)


def test_missing_masks_are_told(model: nn.Module) -> None:
    images, samples = tiny.batch()
    del samples[0].gt_instances.masks
    with pytest.raises(ValueError, match=r'need gt_instances\.masks, got objects without; load'):
        model.loss(images, samples)


def test_masks_larger_than_the_batch_are_told(model: nn.Module) -> None:
    images, samples = tiny.batch()
    samples[0].gt_instances.masks = samples[0].gt_instances.masks.pad((65, 96))
    with pytest.raises(ValueError, match='masks must fit the padded batch of 64 x 96 pixels'):
        model.loss(images, samples)


def test_terms_can_be_switched_off() -> None:
    criterion = tiny.load(JOINT).model.criterion
    criterion.losses.loss_mask = None
    model = tiny.build(JOINT, criterion=criterion)
    assert {'loss_mask', 'loss_dice'} & set(model.loss(*tiny.batch())) == {'loss_dice'}
    criterion.losses.loss_dice = None
    model = tiny.build(JOINT, criterion=criterion)
    assert not {'loss_mask', 'loss_dice'} & set(model.loss(*tiny.batch()))


# ---- instance masks -----------------------------------------------------------------------------


def test_instance_masks_are_cropped_then_resized() -> None:
    head = AttentionMaskHead([4], embed_dims=32, chunk=1)
    logits = torch.full((2, 4, 4), -9.0)
    logits[0, :2, :2] = 9  # the upper left quarter of the canvas
    logits[1] = 9
    masks = head.instances(logits, canvas=(16, 16), crop=(8, 16), size=(16, 8))
    assert masks.dtype == torch.bool and masks.shape == (2, 16, 8)
    assert masks[1].all()
    assert masks[0, :, :4].all() and not masks[0, :, 5:].any()


def test_detections_carry_the_masks_of_their_queries(model: nn.Module) -> None:
    images, samples = tiny.batch()
    best = tiny.build(JOINT, test_cfg={'max_per_img': 5, 'num_things': NUM_THINGS})
    best.load_state_dict(model.state_dict())
    with torch.no_grad():
        every = [s.pred_instances for s in model.predict(images, samples, rescale=False)]
        small = [s.pred_instances for s in best.predict(images, tiny.batch()[1], rescale=False)]
        large = [s.pred_instances for s in model.predict(images, tiny.batch()[1])]
    for sample, some, full, double in zip(samples, small, every, large):
        height, width = sample.img_shape
        assert full.masks.shape == (tiny.NUM_QUERIES, height, width)
        assert double.masks.shape == (tiny.NUM_QUERIES, 2 * height, 2 * width)
        order = full.scores.argsort(descending=True)[:5]
        assert torch.equal(some.masks, full.masks[order])
