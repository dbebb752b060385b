"""References: the space of their values is their own business, what they mean is the same for all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmdetr_plugin.structures import LogitReference, Reference, RelativeReference, UnitReference

KINDS = (LogitReference, UnitReference, RelativeReference)
every_kind = pytest.mark.parametrize('kind', KINDS)


def boxes() -> Tensor:
    """(2, 3, 4), cxcywh in 0..1."""
    torch.manual_seed(0)
    return 0.1 + 0.8 * torch.rand(2, 3, 4, dtype=torch.float64)


def delta() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 4, dtype=torch.float64)


def make(kind: type[Reference], unit: Tensor) -> Reference:
    """A reference whose place is ``unit``."""
    return kind((unit / (1 - unit)).log() if kind is LogitReference else unit)


@every_kind
@pytest.mark.parametrize('dims', [2, 4])
def test_the_place_is_the_same_in_every_space(kind: type[Reference], dims: int) -> None:
    reference = make(kind, boxes()[..., :dims])
    assert reference.dims == dims
    torch.testing.assert_close(reference.unit(), boxes()[..., :dims])


@every_kind
def test_half_precision_goes_in_and_single_comes_out(kind: type[Reference]) -> None:
    for given, expected in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        reference = make(kind, boxes()).map(lambda x, given=given: x.to(given))
        place = reference.unit()
        assert place.dtype is expected
        torch.testing.assert_close(place.double(), boxes(), rtol=0.02, atol=0.01)
        moved = reference.moved(delta().to(expected)).unit()
        assert moved.dtype is expected
        assert moved.isfinite().all()


@every_kind
def test_a_move_by_zero_changes_nothing(kind: type[Reference]) -> None:
    moved = make(kind, boxes()).moved(torch.zeros(2, 3, 4, dtype=torch.float64))
    torch.testing.assert_close(moved.unit(), boxes())


def test_moves() -> None:
    """Sigmoid of the sum of logits, or in units of the box's own size."""
    box, change = boxes(), delta()
    expected = 1 / (1 + torch.exp(-((box / (1 - box)).log() + change)))
    for kind in (LogitReference, UnitReference):
        torch.testing.assert_close(make(kind, box).moved(change).unit(), expected)
    x, y, w, h = box.unbind(-1)
    dx, dy, dw, dh = change.unbind(-1)
    expected = torch.stack((x + dx * w, y + dy * h, w * dw.exp(), h * dh.exp()), -1)
    torch.testing.assert_close(make(RelativeReference, box).moved(change).unit(), expected)


@pytest.mark.parametrize('kind', [LogitReference, UnitReference])
def test_a_point_moves_its_centre_and_leaves_the_size_to_the_head(kind: type[Reference]) -> None:
    box, change = boxes(), delta()
    moved = make(kind, box).points().moved(change)
    torch.testing.assert_close(moved.unit()[..., :2], make(kind, box).moved(change).unit()[..., :2])
    torch.testing.assert_close(moved.unit()[..., 2:], change[..., 2:].sigmoid())


@pytest.mark.parametrize('kind', [LogitReference, UnitReference])
def test_coordinates_are_kept_from_the_border_before_they_move(kind: type[Reference]) -> None:
    border = torch.tensor([[[0.0, 1.0, 1e-9, 1 - 1e-9]]], dtype=torch.float64)
    eps = 1e-3
    place = make(kind, border).moved(torch.zeros(1, 1, 4, dtype=torch.float64), eps).unit()
    inside = border.clamp(eps, 1 - eps)
    torch.testing.assert_close(place, inside, rtol=0, atol=2 * eps**2)  # numerator and denominator


@pytest.mark.parametrize('kind', [LogitReference, UnitReference])
def test_eps_matters_next_to_the_border_alone(kind: type[Reference]) -> None:
    """mmdet's DAB-DETR has 1e-5, the authors' 1e-3 (docs/migrate.md)."""
    places = torch.tensor(
        [[[2e-3, 0.5, 0.998, 0.9], [9e-4, 0.5, 0.9995, 0.9]]], dtype=torch.float64
    )
    change = torch.full_like(places, 0.3)
    ours, theirs = (make(kind, places).moved(change, eps).unit()[0] for eps in (1e-3, 1e-5))
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=1e-12)
    assert [abs(x - y) > 1e-5 for x, y in zip(ours[1], theirs[1])] == [True, False, True, False]


@every_kind
def test_points_and_detached_references_are_of_the_same_kind(kind: type[Reference]) -> None:
    values = make(kind, boxes()).values.requires_grad_()
    reference = kind(values)
    points = reference.points()
    assert type(points) is kind
    torch.testing.assert_close(points.unit(), boxes()[..., :2])
    assert points.values.requires_grad
    detached = reference.detach()
    assert type(detached) is kind
    assert torch.equal(detached.values, values)
    assert not detached.values.requires_grad
    assert reference.values is values  # as it was
    reference.moved(delta()).unit().sum().backward()
    assert values.grad.any()
