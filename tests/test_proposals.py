"""Queries selected from the encoder's proposals (two stages)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmdetr_plugin.heads import SetHead
from mmdetr_plugin.positions.maps import SinePosition
from mmdetr_plugin.queries import EncoderProposals
from mmdetr_plugin.structures import Memory
from mmdetr_plugin.transformer.embedding import embed_maps

SHAPES, CANVAS, IMAGE = ((8, 8), (4, 4)), (64, 64), (32, 64)
WIDTH = 16


def embed(shapes: tuple, image: tuple[int, int], canvas: tuple[int, int]) -> Memory:
    torch.manual_seed(0)
    maps = tuple(torch.randn(1, WIDTH, *shape) for shape in shapes)
    return embed_maps(maps, SinePosition(WIDTH), [image], canvas)


@pytest.fixture
def memory() -> Memory:
    """Two levels of one image; its lower half is padding."""
    return embed(SHAPES, IMAGE, CANVAS)


def make(num_queries: int = 10) -> tuple[EncoderProposals, SetHead]:
    torch.manual_seed(1)
    head = SetHead(3, WIDTH, num_layers=2, encoder=True, refine='iterative')
    return EncoderProposals(num_queries, WIDTH), head


def test_anchors_are_centred_squares_of_their_level(memory: Memory) -> None:
    source, _ = make()
    boxes, valid = source.anchors(memory)
    boxes = boxes.unit()
    # Centres in the unpadded image, which is 8 x 4 cells of the first level and 4 x 2 of the second.
    torch.testing.assert_close(boxes[0, 9], torch.tensor([1.5 / 8, 1.5 / 4, 0.05, 0.05]))
    torch.testing.assert_close(boxes[0, 64 + 5], torch.tensor([1.5 / 4, 1.5 / 2, 0.1, 0.1]))
    assert not valid[0, :, 0][memory.mask[0]].any()
    assert (boxes[0][~valid[0, :, 0]] == 1).all()  # infinity in logit space


def test_tokens_near_the_border_make_no_proposal() -> None:
    source, _ = make()
    cells = (1, 200)  # half a percent of the image each
    _, valid = source.anchors(embed((cells,), cells, cells))
    assert valid[0, :, 0].nonzero().flatten().tolist() == list(range(2, 198))


def test_the_best_tokens_become_queries(memory: Memory) -> None:
    source, head = make()
    state, proposals = source(memory, head)
    prediction = proposals().prediction
    scores = prediction.logits[0, :, 0]
    chosen = scores.argsort(descending=True)[:10]
    torch.testing.assert_close(state.ref.unit()[0], prediction.boxes[0, chosen])
    assert not state.ref.values.requires_grad
    assert state.content.shape == state.pos.shape == (1, 10, WIDTH)


def test_padding_is_ranked_as_published(memory: Memory) -> None:
    """The memory of a padding token is 0 and its score that of 0; it may be among the best.

    So a two-stage model depends on padding: it is the only way in which it does.
    """
    source, head = make(num_queries=80)
    nn.init.zeros_(source.output.bias)
    state, proposals = source(memory, head)
    prediction = proposals().prediction
    scores = prediction.logits[0, :, 0]
    padding = scores[memory.mask[0]]
    assert (padding == padding[0]).all()
    assert (scores[~memory.mask[0]] < padding[0]).any()
    assert state.ref.values.isposinf().any()
    assert all(x.isfinite().all() for x in (state.pos, state.content, state.ref.unit()))
