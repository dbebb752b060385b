"""The mask head, its losses, instance and panoptic masks, frozen parts, training in two steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from mmdetr_plugin.checkpoints import from_official, official_names, to_official
from mmdetr_plugin.criterion import MaskDiceLoss, MaskFocalLoss, Targets
from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.heads import AttentionMaskHead, Features, PanopticArgmax, PanopticTopK
from mmdetr_plugin.heads.panoptic import nearest_places
from mmdetr_plugin.registry import DATASETS
from mmdetr_plugin.structures import Masks, Memory, Prediction
from mmdetr_plugin.visualization import PanopticVisualizer

JOINT, BOXES, MASKS = (f'detr_panoptic_{step}r50' for step in ('', 'boxes_', 'masks_'))
NUM_THINGS = 2


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return tiny.build(JOINT)


@pytest.fixture(scope='module')
def outputs(model: nn.Module) -> dict[str, Tensor]:
    with torch.no_grad():
        return model(*tiny.batch(), mode='tensor')


def gradients(model: nn.Module, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    out = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return out


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


# ---- panoptic segments --------------------------------------------------------------------------


def logits_of(labels: list[int], scores: list[float], num_classes: int = 4) -> Tensor:
    """(N, K + 1) with these classes and their probabilities; the rest goes to no-object."""
    prob = torch.full((len(labels), num_classes + 1), 1e-6)
    for row, label, score in zip(prob, labels, scores):
        row[label] = score
        row[-1] += 1 - score
    return prob.log()


def bands(*heights: tuple[int, int], size: int = 20) -> Tensor:
    """Masks that are high on rows from, to."""
    masks = torch.full((len(heights), size, size), -5.0)
    for mask, (top, bottom) in zip(masks, heights):
        mask[top:bottom] = 5
    return masks


def segment(
    labels: list[int], masks: Tensor, scores: list[float] | None = None, **settings
) -> tuple:
    post = PanopticArgmax(num_things=NUM_THINGS, **settings)
    logits = logits_of(labels, scores or [0.95] * len(labels))
    size = tuple(masks.shape[-2:])
    result = post.panoptic(logits, masks, size, size)
    assert result.sem_seg.shape == (1, *size)
    return result.sem_seg[0], result.segments_info


def test_every_pixel_goes_to_one_segment() -> None:
    codes, infos = segment([0, 0, 3], bands((0, 6), (6, 10), (10, 20)))
    first, second = INSTANCE_OFFSET, 2 * INSTANCE_OFFSET  # things of one class are told apart
    assert [info['id'] for info in infos] == [first, second, 3]
    assert [(i['category_id'], i['isthing'], i['area']) for i in infos] == [
        (0, True, 120),
        (0, True, 80),
        (3, False, 200),
    ]
    assert codes[:, 0].tolist() == [first] * 6 + [second] * 4 + [3] * 10


def test_scores_decide_which_queries_take_part() -> None:
    masks = bands((0, 10), (10, 20), (0, 20))
    codes, _ = segment([0, 2, 1], masks, [0.9, 0.86, 0.84])
    assert set(codes.unique().tolist()) == {INSTANCE_OFFSET, 2}
    codes, _ = segment(
        [0, 2, 1],
        masks - torch.tensor([0, 0, 9.0]).view(3, 1, 1),
        [0.9, 0.86, 0.84],
        score_thr=0.87,
    )
    assert codes.unique().tolist() == [INSTANCE_OFFSET]


def test_no_object_makes_no_segment() -> None:
    """A class above a low threshold is not enough: no-object must not be above it."""
    codes, infos = segment([0, 1], bands((0, 10), (10, 20)), [0.6, 0.4], score_thr=0.2)
    assert [info['category_id'] for info in infos] == [0]
    assert codes.unique().tolist() == [INSTANCE_OFFSET]


def test_without_segments_all_is_void() -> None:
    codes, infos = segment([0, 1], bands((0, 10), (10, 20)), [0.5, 0.5])
    assert infos == [] and codes.unique().tolist() == [4]  # the number of classes: no class


def test_stuff_of_a_class_is_joined_in_the_first_pass_only() -> None:
    masks = bands((0, 6), (6, 12), (12, 20))
    _, infos = segment([2, 2, 3], masks, min_area=-1)  # nothing is small: one pass
    assert [(i['id'], i['area']) for i in infos] == [(2, 240), (2 + INSTANCE_OFFSET, 0), (3, 160)]
    # A segment that was joined to another is small; without its mask the next best takes its place.
    masks[2, 6:12] = -4
    codes, infos = segment([2, 2, 3], masks)
    assert [(i['id'], i['area']) for i in infos] == [(2, 120), (3, 280)]
    assert codes[:, 0].tolist() == [2] * 6 + [3] * 14


def test_small_segments_go_to_the_others() -> None:
    masks = bands((0, 10), (10, 20), (20, 20))
    masks[2, 10, :4] = 9  # 4 pixels: too few
    _, infos = segment([0, 3, 1], masks)
    assert [info['category_id'] for info in infos] == [0, 3]
    masks[2, 10, 4] = 9
    _, infos = segment([0, 3, 1], masks)
    assert [(i['category_id'], i['area']) for i in infos] == [(0, 200), (3, 195), (1, 5)]
    _, infos = segment([0, 3, 1], masks, min_area=5)
    assert [info['category_id'] for info in infos] == [0, 3]


def test_original_size() -> None:
    post = PanopticArgmax(num_things=NUM_THINGS)
    masks = bands((0, 10), (10, 20))
    result = post.panoptic(logits_of([0, 3], [0.95, 0.95]), masks, (40, 30), (10, 12))
    assert result.sem_seg.shape == (1, 10, 12)
    assert sum(info['area'] for info in result.segments_info) == 120


@pytest.mark.parametrize(('length', 'new'), [(144, 180), (128, 192), (161, 241), (7, 3), (5, 5)])
def test_resizing_rounds_as_pillow(length: int, new: int) -> None:
    image = pytest.importorskip('PIL.Image')
    line = image.fromarray(np.arange(length, dtype=np.int32)[None])
    expected = np.asarray(line.resize((new, 1), image.NEAREST))[0]
    assert nearest_places(length, new).tolist() == expected.tolist()


def test_sigmoids_make_the_same_segments() -> None:
    """Of the same scores; without a column for no-object, a low score alone says that there is none."""
    labels, scores, masks = [0, 3, 1], [0.9, 0.6, 0.3], bands((0, 6), (6, 14), (14, 20))
    probabilities = torch.full((3, 4), 1e-6)
    probabilities[range(3), labels] = torch.tensor(scores)
    post = PanopticTopK(num_things=NUM_THINGS, score_thr=0.5)
    found = post.panoptic(probabilities.logit(), masks, (20, 20), (20, 20))
    codes, infos = segment(labels, masks, scores, score_thr=0.5)
    assert torch.equal(found.sem_seg[0], codes)
    assert found.segments_info == infos and len(infos) == 2
    detections = post(probabilities.logit()[None], torch.zeros(1, 3, 4))
    assert detections.labels[0, :3].tolist() == labels
    nothing = post.panoptic(torch.full((3, 4), -9.0), masks, (20, 20), (10, 10))
    assert nothing.sem_seg.unique().tolist() == [4] and nothing.segments_info == []


def test_predictions_carry_panoptic_segments() -> None:
    model = tiny.build(JOINT, test_cfg={'score_thr': 0.0, 'min_area': 0})
    with torch.no_grad():
        samples = model.predict(*tiny.batch())
    for sample in samples:
        codes = sample.pred_panoptic_seg.sem_seg
        assert codes.shape == (1, *sample.ori_shape)
        infos = sample.pred_panoptic_seg.segments_info
        assert sum(info['area'] for info in infos) == codes.numel()


@pytest.mark.parametrize('scores', [[0.95, 0.95], [0.1, 0.1]])
def test_segments_can_be_drawn(scores: list[float]) -> None:
    post = PanopticArgmax(num_things=NUM_THINGS)
    sample = DetDataSample()
    size = (20, 20)
    sample.pred_panoptic_seg = post.panoptic(
        logits_of([0, 3], scores), bands((0, 10), (10, 20)), size, size
    )
    visualizer = PanopticVisualizer()
    visualizer.dataset_meta = {'classes': ('a', 'b', 'c', 'd'), 'palette': [(255, 0, 0)] * 4}
    visualizer.add_datasample('', np.zeros((*size, 3), np.uint8), sample, draw_gt=False)
    assert visualizer.get_image().any() == bool(sample.pred_panoptic_seg.segments_info)


# ---- checkpoints --------------------------------------------------------------------------------


def test_official_names_wrap_the_detector(model: nn.Module) -> None:
    names = {n for each in official_names(model, 'detr').values() for n in each}
    others = {n for n in names if not n.startswith('detr.')}
    assert {n.split('.')[0] for n in others} == {'bbox_attention', 'mask_head'}
    assert {
        'mask_head.lay1.weight',
        'mask_head.adapter3.bias',
        'bbox_attention.k_linear.bias',
    } < others
    assert 'detr.transformer.decoder.norm.weight' in names


def test_a_detectors_file_serves_the_mask_model(model: nn.Module) -> None:
    detector = tiny.build(BOXES, seed=5)
    official = to_official(detector.state_dict(), detector)
    assert not any(name.startswith('detr.') for name in official)
    fresh = tiny.build(JOINT)
    fresh.load_state_dict(official, strict=False)
    for name, value in detector.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value)
    with pytest.raises(ValueError, match='missing: bbox_attention'):
        from_official({f'detr.{n}': v for n, v in official.items()}, fresh)


def test_a_mask_models_file_serves_the_detector(model: nn.Module) -> None:
    detector = tiny.build(BOXES, seed=5)
    detector.load_state_dict(to_official(model.state_dict(), model))
    for name, value in detector.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


# ---- frozen parts -------------------------------------------------------------------------------


def test_frozen_parts_neither_train_nor_drop() -> None:
    model = tiny.build(MASKS, dropout=0.5).train()
    assert model.training and model.mask_head.training
    trained = {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'mask_head'}
    for part in ('backbone', 'neck', 'encoder', 'queries', 'decoder', 'head'):
        assert not any(m.training for m in getattr(model, part).modules())
    losses = gradients(model, model.loss(*tiny.batch()))
    assert {name.split('.')[0] for name in losses} == {'mask_head'}


def test_a_layer_can_be_frozen() -> None:
    model = tiny.build(BOXES, frozen_parts=['decoder.layers.0']).train()
    assert not model.decoder.layers[0].training and model.decoder.layers[1].training
    frozen = {n for n, p in model.decoder.named_parameters() if not p.requires_grad}
    assert frozen and all(name.startswith('layers.0.') for name in frozen)


def test_unknown_parts_are_told() -> None:
    with pytest.raises(ValueError, match=r"got 'backbon'; did you mean one of \['backbone'"):
        tiny.build(BOXES, frozen_parts=['backbon'])


# ---- training and evaluation --------------------------------------------------------------------


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('panoptic') / 'digits'
    make_digits(root, num_train=4, num_val=4, size=64)
    return root


def on_digits(name: str, digits: Path, **changes: object) -> Config:
    """A config's shrunk model on the panoptic digits: two steps of training, then evaluation."""
    cfg = tiny.load(name)
    data = Config.fromfile(tiny.ROOT / 'configs/_base_/datasets/digits_panoptic.py')
    for loader in ('train_dataloader', 'val_dataloader'):
        settings = data[loader]
        settings.dataset.data_root = str(digits)
        settings.update(batch_size=2, num_workers=0, persistent_workers=False)
        cfg[loader] = settings
    metrics = [ConfigDict(metric) for metric in data.val_evaluator]
    for metric in metrics:
        for key in ('ann_file', 'seg_prefix'):
            if key in metric:
                metric[key] = metric[key].replace('data/digits', str(digits))
    if name == BOXES:
        metrics = [{**metrics[0], 'metric': 'bbox'}]
    cfg.val_evaluator = metrics
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        cfg.pop(key, None)
    cfg.model = tiny.shrink(cfg.model, num_classes=16)
    if name != BOXES:
        cfg.model.test_cfg = {'num_things': 10, 'score_thr': 0.0}
    cfg.train_cfg.max_epochs = 1
    cfg.work_dir = str(digits.parent / name)
    cfg.log_level = 'WARNING'
    cfg.merge_from_dict(changes)
    return cfg


@pytest.mark.parametrize('name', [JOINT, BOXES])
def test_augmentation_moves_boxes_and_masks_together(digits: Path, name: str) -> None:
    data = on_digits(name, digits).train_dataloader.dataset
    data.pipeline = tiny.load(name).train_dataloader.dataset.pipeline
    data.pipeline[1].num_things = 10
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        dataset = DATASETS.build(data)
    for seed in range(4):
        np.random.seed(seed)
        sample = dataset[0]
        truth, shape = sample['data_samples'].gt_instances, sample['inputs'].shape[1:]
        assert len(truth) > 1 and truth.labels.max() >= 10
        if name == BOXES:
            assert 'masks' not in truth
            continue
        assert truth.masks.masks.shape == (len(truth), *shape)
        boxes, tight = truth.bboxes.tensor, truth.masks.get_bboxes('hbox').tensor
        whole = truth.masks.areas > 0
        assert (tight[whole] - boxes[whole]).abs().max() < shape[0] / 20


def test_two_steps_of_training_on_digits(digits: Path) -> None:
    Runner.from_cfg(on_digits(BOXES, digits)).train()
    file = digits.parent / BOXES / 'epoch_1.pth'
    boxes = torch.load(file)['state_dict']

    runner = Runner.from_cfg(on_digits(MASKS, digits, load_from=str(file)))
    runner.train()
    for key in EXPECTED:
        assert 0 <= runner.message_hub.get_scalar(f'val/{key}').current() <= 100
    after = runner.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in boxes.items())
    trained = len(list(runner.model.mask_head.parameters()))
    assert len(runner.optim_wrapper.optimizer.state) == trained
    fresh = tiny.build(MASKS, num_classes=16)
    load_checkpoint(fresh, str(digits.parent / MASKS / 'epoch_1.pth'), strict=True)


EXPECTED = [
    'coco/bbox_mAP',
    'coco/segm_mAP',
    *(
        f'coco_panoptic/{name}{group}'
        for name in ('PQ', 'SQ', 'RQ')
        for group in ('', '_th', '_st')
    ),
]
