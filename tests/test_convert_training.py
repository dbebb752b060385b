"""mmdet's DINO with random weights, converted, has our outputs, losses and gradients.

All is in double precision. Queries are ranked by scores, some of which differ by less than the rounding
of single precision, and two that change places change all others. Gradients of sampling offsets have a
step wherever a sample crosses the border of a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import tiny
import torch
from mmdet.models.detectors import DeformableDETR
from torch import Tensor, nn

from mmdetr_plugin import DETR
from mmdetr_plugin.checkpoints import to_ours
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.testing import peers
from mmdetr_plugin.testing.noise import shared_noise

NAMES = ('dino_r50_mmdet',)
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
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@cache
def pair(name: str, small: bool) -> tuple[nn.Module, nn.Module]:
    peer, model = peers.mmdet_pair(name, small=small)
    return peer.double(), model.double()


def batch(small: bool, counts: tuple[int, int] = (3, 1)) -> tuple[Tensor, list]:
    """A padded image and one that fills the canvas, with more tokens than there are queries."""
    sizes = ((128, 96), (100, 90)) if small else ((256, 288), (200, 230))
    images, samples = tiny.batch(counts, sizes)
    return images.double(), samples


@pytest.mark.parametrize('small', SIZES)
@pytest.mark.parametrize('name', NAMES)
def test_outputs(name: str, small: bool) -> None:
    peer, model = pair(name, small)
    with torch.no_grad():
        outputs = peer(*batch(small), mode='tensor')
        got = model(*batch(small), mode='tensor')
    for key, theirs in zip(('pred_logits', 'pred_boxes'), outputs, strict=True):
        assert theirs.std() > 0.02  # not all the same
        assert (got[key] - theirs).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ('counts', 'small'),
    [((3, 1), True), ((0, 2), True), ((0, 0), True), pytest.param((3, 1), False, marks=SLOW)],
)
@pytest.mark.parametrize('name', NAMES)
def test_losses_and_gradients(name: str, counts: tuple[int, int], small: bool) -> None:
    """Equal noise is given to both. The encoder's proposals are compared by their losses."""
    peer, model = pair(name, small)
    losses, grads = [], []
    with shared_noise(peer, model):
        for each in (peer, model):
            made = each.train().loss(*batch(small, counts))
            losses.append({key: value.sum() for key, value in made.items() if 'loss' in key})
            sum(losses[-1].values()).backward()
            named = each.named_parameters()
            grads.append({key: p.grad for key, p in named if p.grad is not None})
            each.eval().zero_grad()
    assert_near(losses[1], losses[0])
    assert_near(grads[1], to_ours(grads[0], model)[0])


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        difference = torch.linalg.vector_norm(ours[key] - value)
        assert difference <= 0.1 * TOLERANCE * torch.linalg.vector_norm(value) + 1e-9, key
