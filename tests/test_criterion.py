"""The criterion against its definition, image by image, and what must hold of it."""

from dataclasses import replace

import pytest
import torch
from criterion_cases import (
    NUM_CLASSES,
    make_boxes,
    make_criterion,
    make_outputs,
    make_targets,
    trained,
    warned,  # noqa: F401
)
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes, bbox_overlaps
from mmengine.structures import InstanceData
from torch.nn import functional as F

from mmdetr_plugin.criterion import (
    BoxGIoULoss,
    BoxL1Loss,
    Loss,
    MaskDiceLoss,
    MaskFocalLoss,
    Targets,
)
from mmdetr_plugin.ops.boxes import (
    cxcywh_to_xyxy,
    elementwise_giou,
    pairwise_giou,
    pairwise_iou,
    xyxy_to_cxcywh,
)
from mmdetr_plugin.structures import Branch, Outputs

TERMS = ('loss_cls', 'loss_bbox', 'loss_iou')


def columns(kind):
    return NUM_CLASSES + (kind == 'softmax')


def naive_losses(kind, logits, boxes, targets, matches, num_boxes):
    """Weighted terms of one layer by the papers' formulas; loops over images and objects."""
    cls = l1 = giou = weights = torch.zeros(())
    for image, (query, target) in enumerate(matches):
        labels = torch.full((logits.shape[1],), NUM_CLASSES)
        labels[query] = targets.labels[image][target]
        if kind == 'focal':
            prob = logits[image].sigmoid()
            onehot = F.one_hot(labels, NUM_CLASSES + 1)[:, :NUM_CLASSES]
            p_t = torch.where(onehot > 0, prob, 1 - prob)
            alpha_t = torch.where(onehot > 0, 0.25, 0.75)
            cls = cls + (-alpha_t * (1 - p_t) ** 2 * p_t.log()).sum()
        else:
            weight = torch.where(labels == NUM_CLASSES, 0.1, 1.0)
            nll = -logits[image].log_softmax(-1)[torch.arange(len(labels)), labels]
            cls, weights = cls + (weight * nll).sum(), weights + weight.sum()
        for q, t in zip(query, target):
            pred, gt = boxes[image, q], targets.boxes[image][t]
            l1 = l1 + (pred - gt).abs().sum()
            corners = cxcywh_to_xyxy(torch.stack((pred, gt)))
            giou = giou + 1 - bbox_overlaps(corners[:1], corners[1:], mode='giou', eps=0)[0, 0]
    cls = 2 * cls / num_boxes if kind == 'focal' else cls / weights
    return dict(zip(TERMS, (cls, 5 * l1 / num_boxes, 2 * giou / num_boxes)))


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
@pytest.mark.parametrize('counts', [(3, 0, 5), (0, 0, 0), (9, 1, 0)])
def test_equals_the_definition(kind, counts):
    outputs = make_outputs(len(counts), columns=columns(kind), proposals=20)
    targets, criterion = make_targets(counts), make_criterion(kind)
    losses, matches = criterion(outputs, targets), criterion.match(outputs, targets)
    layers = {
        prefix: (outputs['pred_logits'][i], outputs['pred_boxes'][i], targets)
        for i, prefix in enumerate(('d0.', 'd1.', ''))
    }
    layers['enc_'] = (outputs['enc_logits'], outputs['enc_boxes'], targets.class_agnostic())
    expected = {}
    for prefix, layer in layers.items():
        terms = naive_losses(kind, *layer, matches[prefix], max(sum(counts), 1))
        expected |= {prefix + name: value for name, value in terms.items()}
    assert {name for name in losses if 'loss' in name} == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    ours = torch.autograd.grad(trained(losses), list(outputs.values()))
    naive = torch.autograd.grad(
        trained(expected), list(outputs.values()), allow_unused=True, materialize_grads=True
    )
    for a, b in zip(ours, naive):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_graph_does_not_depend_on_objects(kind):
    criterion, names = make_criterion(kind), []
    for counts in ((2, 3), (0, 0)):
        outputs = make_outputs(columns=columns(kind), proposals=10)
        losses = criterion(outputs, make_targets(counts))
        names.append(set(losses))
        assert all(value.isfinite() for value in losses.values())
        assert all(value.requires_grad for name, value in losses.items() if 'loss' in name)
        trained(losses).backward()
        assert all(tensor.grad.isfinite().all() for tensor in outputs.values())
    assert names[0] == names[1]


@pytest.mark.parametrize('kind', ['focal', 'softmax'])
def test_flipping_predictions_and_targets_together(kind):
    def flip(boxes):
        return torch.cat((1 - boxes[..., :1], boxes[..., 1:]), -1)

    outputs = make_outputs(columns=columns(kind), proposals=20)
    targets, criterion = make_targets((3, 5)), make_criterion(kind)
    flipped = {k: flip(v) if 'boxes' in k else v for k, v in outputs.items()}
    mirrored = Targets(targets.labels, tuple(map(flip, targets.boxes)), targets.image_names)
    plain, mirror = criterion(outputs, targets), criterion(flipped, mirrored)
    for name in plain:
        torch.testing.assert_close(plain[name], mirror[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('off', TERMS)
def test_each_loss_can_be_off(off):
    outputs, targets = make_outputs(proposals=10), make_targets((3, 5))
    full = make_criterion()(outputs, targets)
    part = make_criterion(**{off: None})(outputs, targets)
    assert set(full) - set(part) == {prefix + off for prefix in ('', 'd0.', 'd1.', 'enc_')}
    for name, value in part.items():
        torch.testing.assert_close(value, full[name])


def test_losses_of_groups_are_the_mean_of_those_of_each():
    """Those of masks too: a group is matched and trained as if it were alone."""
    generator = torch.Generator().manual_seed(3)
    counts, side = (3, 0, 2), 8
    masks = tuple(torch.rand(n, side, side, generator=generator) > 0.5 for n in counts)
    targets = replace(make_targets(counts), masks=masks, canvas=(side, side))
    outputs = make_outputs(images=3, queries=10)
    outputs['pred_masks'] = torch.randn(3, 10, 4, 4, generator=generator)
    criterion = make_criterion(loss_mask=MaskFocalLoss(), loss_dice=MaskDiceLoss())
    together = replace(Outputs.of(outputs), branches=(Branch(10, groups=2),))
    got = criterion(together, targets)
    each = [
        criterion({name: part(name, x, group) for name, x in outputs.items()}, targets)
        for group in range(2)
    ]
    assert set(got) == set(each[0])
    for name, value in got.items():
        if 'loss' in name:
            torch.testing.assert_close(value, (each[0][name] + each[1][name]) / 2, msg=name)


def part(name, x, group):
    """Queries 5 group ... 5 group + 4 of an output."""
    return x.narrow(1 if name == 'pred_masks' else 2, 5 * group, 5)


def test_encoder_can_be_left_out():
    outputs, targets = make_outputs(proposals=10), make_targets((3, 5))
    assert not [k for k in make_criterion(encoder=False)(outputs, targets) if 'enc' in k]


class ReadsIoU(Loss):
    """The mean of 1 - IoU, without a gradient: what a user's loss may do first of all."""

    def forward(self, matched):
        return (1 - matched.iou).mean(1) + 0 * matched.logits.sum((1, 2))


def test_a_loss_that_reads_the_iou_takes_no_gradient_from_the_others():
    gradients = []
    for first in (None, ReadsIoU()):
        outputs = make_outputs()
        terms = dict(loss_bbox=BoxL1Loss(), loss_iou=BoxGIoULoss())
        criterion = make_criterion(loss_cls=first, **terms)
        trained(criterion(outputs, make_targets((3, 1)))).backward()
        gradients.append(outputs['pred_boxes'].grad)
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)


def test_logged_values():
    outputs, targets = make_outputs(1, 1, 3, columns=NUM_CLASSES + 1), make_targets((2,))
    targets = Targets((torch.tensor([1, 2]),), targets.boxes, targets.image_names)
    with torch.no_grad():
        outputs['pred_boxes'][0, 0, :2] = targets.boxes[0]
        outputs['pred_logits'].fill_(0.0)
        outputs['pred_logits'][0, 0, [0, 1, 2], [1, 3, NUM_CLASSES]] = 9.0
    losses = make_criterion('softmax')(outputs, targets)
    assert losses['class_error'] == 50  # query 0 has the class of its object, query 1 has not
    assert losses['cardinality_error'] == 0  # two queries are not background, there are two objects
    assert losses['unmatched_gt'] == 0
    assert make_criterion('softmax')(outputs, make_targets((7,)))['unmatched_gt'] == 4
    assert make_criterion('softmax')(outputs, make_targets((0,)))['class_error'] == 100


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    outputs = {k: v.detach().to(dtype) for k, v in make_outputs(proposals=10).items()}
    targets, criterion = make_targets((3, 5)), make_criterion()
    expected = criterion({k: v.float() for k, v in outputs.items()}, targets)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = criterion(outputs, targets)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        assert value == expected[name]


@pytest.mark.parametrize(('kind', 'width'), [('softmax', NUM_CLASSES), ('focal', NUM_CLASSES - 1)])
def test_width_of_the_class_head(kind, width):
    with pytest.raises(ValueError, match=rf'needs num_classes.*= \d columns.*got {width}'):
        make_criterion(kind)(make_outputs(columns=width), make_targets((1, 2)))


def test_focal_head_may_have_a_column_more():
    losses = make_criterion()(make_outputs(columns=NUM_CLASSES + 1), make_targets((1, 2)))
    assert trained(losses).isfinite()


def samples(boxes, labels, **meta):
    sample = DetDataSample(metainfo=dict(img_shape=(50, 100), **meta))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor(labels))
    return [sample]


@pytest.mark.parametrize('kind', [HorizontalBoxes, torch.Tensor])
def test_targets_from_samples(kind):
    pixels = torch.tensor([[10.0, 10.0, 30.0, 20.0], [0.0, 0.0, 100.0, 50.0]])
    targets = Targets.from_samples(samples(kind(pixels), [1, 2], img_path='a.jpg'), NUM_CLASSES)
    expected = torch.tensor([[0.2, 0.3, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0]])
    torch.testing.assert_close(targets.boxes[0], expected)
    assert targets.counts == (2,)
    assert targets.image_names == ('a.jpg',)


@pytest.mark.parametrize('label', [NUM_CLASSES, -1])
@pytest.mark.parametrize('meta', [dict(img_path='dir/a.jpg'), dict(img_id=17)])
def test_label_out_of_range_names_image_and_label(label, meta):
    boxes = torch.tensor([[10.0, 10.0, 30.0, 20.0]] * 2)
    (name,) = meta.values()
    message = rf'num_classes = {NUM_CLASSES}\), got {label} in image {name}; set model\.num_classes'
    with pytest.raises(ValueError, match=message):
        Targets.from_samples(samples(boxes, [0, label], **meta), NUM_CLASSES)
    # On a device the check waits for the assigner, which copies anyway.
    late = Targets((torch.tensor([0, label]),), (xyxy_to_cxcywh(boxes) / 100,), (str(name),))
    with pytest.raises(ValueError, match=message):
        make_criterion()(make_outputs(1), late)


def test_samples_without_objects():
    empty = samples(torch.zeros(0, 4), [])
    empty[0].gt_instances.labels = torch.zeros(0, dtype=torch.long)
    targets = Targets.from_samples(empty, NUM_CLASSES)
    assert targets.counts == (0,)
    assert trained(make_criterion()(make_outputs(1), targets)).isfinite()


def test_boxes_and_overlaps():
    generator = torch.Generator().manual_seed(0)
    a, b = (make_boxes(2, n, generator=generator) for n in (6, 4))
    torch.testing.assert_close(xyxy_to_cxcywh(cxcywh_to_xyxy(a)), a)
    a, b = cxcywh_to_xyxy(a), cxcywh_to_xyxy(b)
    torch.testing.assert_close(pairwise_iou(a, b), bbox_overlaps(a, b))
    torch.testing.assert_close(pairwise_giou(a, b), bbox_overlaps(a, b, mode='giou'))
    diagonal = pairwise_giou(a[:, :4], b).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(elementwise_giou(a[:, :4], b), diagonal)


def test_boxes_without_an_area_have_no_nan():
    point = torch.full((1, 4), 0.3, requires_grad=True)
    loss = BoxGIoULoss().elementwise(point, point.detach())
    loss.sum().backward()
    assert loss.isfinite().all()
    assert point.grad.isfinite().all()
