"""mmdet's DINO and DDQ with random weights, converted, have our outputs, losses and gradients.

All is in double precision, except for the suppression of overlapping boxes. Queries are ranked by
scores, some of which differ by less than the rounding of single precision, and two that change places
change all others. Gradients of sampling offsets have a step wherever a sample crosses the border of a
cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import distributions
from typing import Any

import pytest
import tiny
import torch
from mmcv.ops import batched_nms
from mmdet.models.detectors import DeformableDETR, ddq_detr
from mmdet.models.layers.transformer import ddq_detr_layers
from mmdet.models.losses import ddq_detr_aux_loss
from torch import Tensor, nn

from mmdetr_plugin import DETR
from mmdetr_plugin.checkpoints import to_ours
from mmdetr_plugin.queries import EncoderProposals
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.testing import peers
from mmdetr_plugin.testing.noise import shared_noise

CASES = ('dino_r50_mmdet', 'ddq_detr_r50', 'ddq_detr_r50, large boxes')
"""Of random boxes, few overlap as much as DDQ allows. In the last case many queries are left out, the
first of an image among them."""

SLOW = pytest.mark.slow
SIZES = (pytest.param(True, id='small'), pytest.param(False, marks=SLOW, id='full'))
TOLERANCE = 1e-4  # of outputs; of losses and gradients a tenth of it, relative


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also of places, which are in single precision in both projects."""
    ratios, linspace, embed = DeformableDETR.get_valid_ratio, torch.linspace, DETR.embed

    def exact(*args: object) -> Memory:
        memory = embed(*args)
        return replace(memory, valid_ratios=memory.valid_ratios.double())

    monkeypatch.setattr(
        DeformableDETR, 'get_valid_ratio', staticmethod(lambda mask: ratios(mask).double())
    )
    monkeypatch.setattr(torch, 'linspace', lambda *args, dtype, **kw: linspace(*args, **kw))
    monkeypatch.setattr(DETR, 'embed', exact)
    for module in (ddq_detr, ddq_detr_layers):
        monkeypatch.setattr(module, 'batched_nms', nms_in_single_precision)
    monkeypatch.setattr(
        EncoderProposals, 'best', lambda _, logits, number: first_of_equals(logits.amax(-1), number)
    )
    monkeypatch.setattr(ddq_detr_aux_loss, 'torch', DoubleTorch())
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class DoubleTorch:
    """torch, for a module that asks for single precision."""

    float = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def nms_in_single_precision(boxes: Tensor, scores: Tensor, groups: Tensor, cfg: Any) -> tuple:
    if cfg is None:  # it only sorts
        return None, first_of_equals(scores[None], len(scores))[0]
    kept = batched_nms(boxes.float(), scores.float(), groups, cfg)[1]
    return None, kept[scores[kept].argsort(descending=True)]  # ranked in double precision


def first_of_equals(scores: Tensor, number: int) -> Tensor:
    """(B, number): the best of each row. Tokens of padding have equal scores but contents of their own,
    and which of them DDQ selects is left to the sort in both projects."""
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :number]


@lru_cache(maxsize=4)  # those of full size need gigabytes
def pair(case: str, small: bool) -> tuple[nn.Module, nn.Module]:
    name, _, large = case.partition(', ')
    if name == 'dino_r50_mmdet' and any(distributions(name='onedl-mmdetection')):
        pytest.skip("DINO of the onedl fork codes a box in twice as many channels as mmdet's")
    peer, model = peers.mmdet_pair(name, small=small)
    if large:
        last = [branch[-1] for branch in peer.bbox_head.reg_branches]
        last += [branch.layers[-1] for branch in model.head.box_branches]
        with torch.no_grad():
            for linear in last:
                linear.bias[2:] += 2
    return peer.double(), model.double()


def batch(small: bool, counts: tuple[int, int] = (3, 1)) -> tuple[Tensor, list]:
    """A padded image and one that fills the canvas, with more tokens than there are queries.

    Our targets are in single precision: the division of these boxes by the sizes does not round.
    """
    sizes = ((128, 128), (128, 64)) if small else ((256, 256), (256, 128))
    images, samples = tiny.batch(counts, sizes)
    for sample in samples:
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.round()
    return images.double(), samples


@pytest.mark.parametrize('small', SIZES)
@pytest.mark.parametrize('case', CASES)
def test_outputs(case: str, small: bool) -> None:
    peer, model = pair(case, small)
    with torch.no_grad():
        outputs = peer(*batch(small), mode='tensor')
        got = model(*batch(small), mode='tensor')
    for key, theirs in zip(('pred_logits', 'pred_boxes'), outputs, strict=True):
        assert theirs.std() > 0.02  # not all the same
        assert (got[key] - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize('case', CASES)
def test_detections(case: str) -> None:
    """mmdet clips boxes to the image; the official codes and ours do not."""
    peer, model = pair(case, True)
    with torch.no_grad():
        theirs, ours = (m.predict(*batch(True), rescale=False) for m in (peer, model))
        kept = model.run(*batch(True)).layers[-1].kept
    assert (kept is not None and not kept.all()) == ('large' in case)
    for left, right in zip(ours, theirs, strict=True):
        height, width = left.img_shape
        clipped = left.pred_instances.bboxes.clamp(min=0)
        clipped = clipped.minimum(torch.tensor((width, height, width, height)))
        assert (left.pred_instances.scores - right.pred_instances.scores).abs().max() < TOLERANCE
        assert (clipped - right.pred_instances.bboxes).abs().max() < TOLERANCE * max(height, width)


@pytest.mark.parametrize(
    ('counts', 'small'),
    [((3, 1), True), ((0, 2), True), ((0, 0), True), pytest.param((3, 1), False, marks=SLOW)],
)
@pytest.mark.parametrize('case', CASES)
def test_losses_and_gradients(case: str, counts: tuple[int, int], small: bool) -> None:
    """Equal noise is given to both. The encoder's proposals are compared by their losses."""
    peer, model = pair(case, small)
    losses, grads = [], []
    with shared_noise(peer, model):
        for each in (peer, model):
            made = each.train().loss(*batch(small, counts))
            losses.append({our_name(key, made): total(made[key]) for key in made if 'loss' in key})
            sum(losses[-1].values()).backward()
            named = each.named_parameters()
            grads.append({key: p.grad for key, p in named if p.grad is not None})
            each.eval().zero_grad()
    assert_near(losses[1], losses[0])
    assert_near(grads[1], to_ours(grads[0], model)[0])


def our_name(key: str, losses: dict[str, Tensor]) -> str:
    """Ours of a loss of mmdet, which calls those of dense queries ``3_aux_aux_loss_cls``."""
    layer, dense, term = key.partition('_aux_aux_')
    if key.startswith('aux_enc_aux_'):
        layer, term = 'enc', key.removeprefix('aux_enc_aux_')
    elif not dense:
        return key
    last = f'{int(layer) + 1}_aux_aux_{term}' not in losses if layer != 'enc' else False
    prefix = {'enc': 'enc_'}.get(layer, '' if last else f'd{layer}.')
    return f'{prefix}dense_{term.replace("bbox", "iou")}'


def total(loss: Tensor | list[Tensor]) -> Tensor:
    """Of dense queries mmdet has a loss for each image, with an average over all of them."""
    return torch.stack(loss).sum() if isinstance(loss, list) else loss.sum()


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        difference = torch.linalg.vector_norm(ours[key] - value)
        assert difference <= 0.1 * TOLERANCE * torch.linalg.vector_norm(value) + 1e-9, key
