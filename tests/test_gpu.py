"""On a GPU models compute what they compute on the CPU, also as a CUDA graph."""

from __future__ import annotations

import pytest
import tiny
import torch
from cli import TOOLS, load
from steps import FAMILIES, forward, loss_and_gradients
from torch import Tensor

pytestmark = pytest.mark.gpu
inference = load(TOOLS / 'benchmarks' / 'inference.py')


@pytest.fixture(autouse=True)
def _all_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def batch() -> tuple[Tensor, list]:
    images, samples = tiny.batch()
    return images.cuda(), [sample.cuda() for sample in samples]


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key].cpu(), value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize('name', tiny.CONFIGS)
def test_outputs_are_those_of_the_cpu(name: str) -> None:
    model = tiny.build(name)
    with tiny.fixed_selection(model):
        expected = forward(model)
        assert_near(forward(model.cuda(), *batch()), expected)


@pytest.mark.parametrize('name', FAMILIES)
def test_gradients_are_those_of_the_cpu(name: str) -> None:
    model = tiny.build(name)
    with tiny.fixed_selection(model):
        loss, expected = loss_and_gradients(model)
        expected = {key: value.clone() for key, value in expected.items()}
        got, gradients = loss_and_gradients(model.cuda(), batch=batch())
    torch.testing.assert_close(got.cpu(), loss, rtol=1e-3, atol=1e-4)
    assert_near(gradients, expected)


@pytest.mark.parametrize('name', FAMILIES)
def test_a_graph_gives_the_same_for_other_images(name: str) -> None:
    model = tiny.build(name).cuda()

    @torch.no_grad()
    def network(images: Tensor) -> dict[str, Tensor]:
        return inference.of_ours(model, images)

    images = batch()[0]
    replay = inference.graphed(network, torch.zeros_like(images))
    expected = {key: value.cpu() for key, value in network(images).items()}
    assert_near(replay(images), expected)
