"""The ten cases that decide the interface of the slots, each with a part of a few lines.

Whoever writes a new part finds here what it is given and what it may return. Every model is trained a
step, predicts, validates, saves and loads its weights, and is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from mmdet.structures import DetDataSample
from torch import Tensor, nn
from toy import CRITERION, QUERIES, SIZE, WIDTH, Places, data, lives, make, run

from mmdetr_plugin.attention import AttentionOp
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.heads import Features, Head, MaskHead
from mmdetr_plugin.positions import PositionEncoding
from mmdetr_plugin.queries import QuerySource
from mmdetr_plugin.queries.base import Made
from mmdetr_plugin.structures import (
    DenseMasks,
    LogitReference,
    Memory,
    Prediction,
    Proposals,
    State,
    Targets,
)


class Recorder(AttentionOp):
    """Keeps what its layer is given."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.seen: list[State] = []

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        self.seen.append(state)
        return 0 * state.with_pos()


# ---- 1: row-column attention needs the 2-D map ---------------------------------------------------


class RowMeans(AttentionOp):
    """Query n reads the mean of row n."""

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        rows = memory.maps()[0].mean(-1).transpose(1, 2)  # (B, H, C)
        return rows[:, : state.content.shape[1]]


def test_ops_see_the_map_and_its_mask() -> None:
    model = make(dict(type=RowMeans))
    maps = model.extract_feat(data()[0])
    sample = DetDataSample(metainfo=dict(img_shape=(32, 24)))
    memory = model.embed(maps, [sample, sample], SIZE)
    assert memory.shapes == ((4, 6),)
    torch.testing.assert_close(memory.maps()[0], maps[0])
    assert memory.masks()[0][0].tolist() == [[False] * 3 + [True] * 3] * 4
    op = model.decoder.layers[0].cross_attn
    got = op(State(torch.zeros(2, QUERIES, WIDTH)), memory, 0)
    torch.testing.assert_close(got, maps[0].mean(-1).transpose(1, 2))
    lives(model)


# ---- 2: SAM-DETR builds its queries from the memory, inside cross-attention ----------------------


class ContentFromMemory(Recorder):
    """New content for the whole layer: the token under each query's reference."""

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        x, y = state.ref.unit().unbind(-1)
        height, width = memory.shapes[0]
        index = (y * height).long() * width + (x * width).long()
        content = memory.tokens.gather(1, index[..., None].expand(-1, -1, WIDTH))
        return replace(state, content=content, pos=None)


def test_cross_attention_can_replace_the_content() -> None:
    queries = dict(
        type='LearnedQueries', num_queries=QUERIES, reference=dict(type='LinearReference')
    )
    layer = dict(self_attn=None, cross_attn=dict(type=ContentFromMemory), ffn=None)
    model = make(queries=queries, decoder=dict(type='Decoder', num_layers=2, layer=layer))
    tokens = model.extract_feat(data()[0])[0].flatten(2).transpose(1, 2)
    run(model)
    for decoder_layer in model.decoder.layers:  # the same places, thus the same tokens
        (state,) = decoder_layer.cross_attn.seen
        assert state.pos is None
        distance = torch.cdist(state.content, tokens).amin(-1)
        assert distance.max() < 1e-4
    lives(model)


# ---- 3: SMCA makes the reference in layer 0 and keeps it -----------------------------------------


class PointFromContent(Recorder):
    def __init__(self, embed_dims: int, layer: int) -> None:
        super().__init__(embed_dims)
        self.point = nn.Linear(embed_dims, 2) if layer == 0 else None

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        if self.point is None:
            return state
        ref = LogitReference(self.point(state.with_pos()))
        return replace(state, ref=ref).keep(first=ref)


def test_layer_0_can_make_a_reference_that_stays() -> None:
    model = make(dict(type=PointFromContent))
    outputs = run(model)
    states = [layer.cross_attn.seen[0] for layer in model.decoder.layers]
    assert states[0].ref is states[1].ref is states[1].carry['first']
    # The box head starts at zero: a box is its reference.
    for boxes in outputs['pred_boxes']:
        torch.testing.assert_close(boxes[..., :2], states[0].ref.unit(), rtol=1e-4, atol=1e-5)


# ---- 4: Conditional DETR treats layer 0 differently ----------------------------------------------


class FirstLayerDiffers(AttentionOp):
    """Has a projection, and uses the query position, in layer 0 only."""

    def __init__(self, embed_dims: int, layer: int) -> None:
        super().__init__()
        self.position = nn.Linear(embed_dims, embed_dims) if layer == 0 else None

    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        assert (layer == 0) == (self.position is not None)
        if layer == 0:
            return self.position(state.pos)
        return state.content


def test_ops_know_their_layer() -> None:
    model = make(dict(type=FirstLayerDiffers))
    names = [name for name, _ in model.decoder.named_parameters() if 'cross_attn.' in name]
    assert names == [f'layers.0.cross_attn.position.{part}' for part in ('weight', 'bias')]
    lives(model, unused=('backbone', 'neck'))  # nothing reads the memory


# ---- 5: DAB-DETR scales the positions of the encoder by the content ------------------------------


class ScaledPosition(Recorder):
    def __init__(self, embed_dims: int) -> None:
        super().__init__(embed_dims)
        self.scale = nn.Linear(embed_dims, embed_dims)

    def prepare(self, state: State, memory: Memory, layer: int) -> State:
        return replace(state, pos=memory.pos * self.scale(state.content))


def test_encoder_ops_can_scale_the_positions() -> None:
    layer = dict(self_attn=dict(type=ScaledPosition), ffn=None)
    model = make(encoder=dict(type='Encoder', num_layers=3, layer=layer))
    run(model)
    maps = model.extract_feat(data()[0])
    code = model.embed(maps, None, SIZE).pos
    for encoder_layer in model.encoder.layers:  # each from the codes as they were, not as scaled
        op = encoder_layer.self_attn
        (state,) = op.seen
        torch.testing.assert_close(state.pos, code * op.scale(state.content))
    lives(model)


# ---- 6: Anchor DETR shares one position encoding between the grid and the points -----------------


class PlanePosition(PositionEncoding):
    """One linear map of (x, y) for cells and for points."""

    def __init__(self, embed_dims: int) -> None:
        super().__init__(embed_dims)
        self.plane = nn.Linear(2, embed_dims)

    def points(self, points: Tensor) -> Tensor:
        return self.plane(points)

    def grid(self, mask: Tensor) -> Tensor:
        batch, height, width = mask.shape
        y, x = ((torch.arange(size) + 0.5) / size for size in (height, width))
        cells = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1)
        return self.points(cells).expand(batch, -1, -1, -1)


class CellQueries(QuerySource):
    """Queries at the centres of the first cells."""

    def __init__(self, position: PositionEncoding) -> None:
        super().__init__()
        self._position = (position,)  # in a tuple: its parameters are the detector's

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        places = memory.places()[:, :QUERIES]
        pos = self._position[0].points(places)
        return State(torch.zeros_like(pos), pos, LogitReference(places.logit())), None


def test_queries_are_handed_the_position_encoding() -> None:
    model = make(position=dict(type=PlanePosition), queries=dict(type=CellQueries))
    memory = model.embed(model.extract_feat(data()[0]), None, SIZE)
    state, _ = model.queries(memory, model.head)
    torch.testing.assert_close(state.pos, memory.pos[:, :QUERIES])
    names = [name for name in model.state_dict() if 'plane' in name]
    assert names == ['position.plane.weight', 'position.plane.bias']
    lives(model)


# ---- 7: denoising supplies queries, and the content of those that are matched --------------------


PLACES = dict(type=Places, num_queries=QUERIES)


def detections(model: DETR) -> Tensor:
    """Logits (L, B, N, K) of the detecting queries while losses are computed."""
    images, samples = data()
    outputs = model.run(images, samples, Targets.from_samples(samples, 3))
    return outputs.tensors()['pred_logits']


@pytest.mark.parametrize('contrastive', [False, True])
def test_any_source_can_be_denoised(contrastive: bool) -> None:
    queries = dict(
        type='DenoisingQueries', queries=PLACES, groups=3, contrastive=contrastive, unknown=True
    )
    model = make(queries=queries)
    losses = lives(model)
    assert {'dn_loss_cls', 'd0.dn_loss_bbox', 'loss_cls'} <= set(losses)
    before = run(model)['pred_logits']
    assert before.shape[2] == QUERIES
    # Noised queries see the others and are not seen by them.
    torch.testing.assert_close(detections(model), before)
    detections(model).sum().backward()
    assert model.queries.labels.weight.grad[-1].any()


# ---- 8: H-DETR and Group DETR have more queries in training --------------------------------------


@pytest.mark.parametrize(
    ('wrapper', 'more'),
    [
        (dict(type='GroupQueries', groups=3), set()),
        (dict(type='GroupQueries', groups=3, separate=True), set()),
        (dict(type='HybridQueries', num_many=5, repeats=2), {'many_loss_cls', 'd0.many_loss_iou'}),
    ],
)
def test_number_of_queries_may_change_with_the_losses(wrapper: dict, more: set[str]) -> None:
    model = make(queries=dict(wrapper, queries=PLACES))
    losses = lives(model)
    assert more <= set(losses)
    alone = run(model)['pred_logits']
    assert alone.shape[2] == QUERIES
    torch.testing.assert_close(detections(model), alone)
    images, samples = data()
    targets = Targets.from_samples(samples, 3)
    pairs = model.criterion.match(model.run(images, samples, targets), targets)
    count = {prefix: sum(len(query) for query, _ in each) for prefix, each in pairs.items()}
    # Two images of two objects: three groups match all, or hybrid queries twice as many.
    assert count[''] == (4 if more else 12)
    assert count.get('many_', 8) == 8


# ---- 9: two stages use one more head, for the encoder --------------------------------------------


class BestTokens(QuerySource):
    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        logits = head.propose_classes(memory.tokens)
        anchors = LogitReference(logits.new_zeros(*memory.mask.shape, 4))
        boxes = head.propose_boxes(memory.tokens, anchors)
        index = logits[..., 0].topk(QUERIES).indices[..., None]
        ref = boxes.map(lambda x: x.gather(1, index.expand(-1, -1, 4))).detach()
        content = memory.tokens.gather(1, index.expand(-1, -1, WIDTH))
        prediction = Prediction(logits, boxes.unit())
        return State(content, ref=ref), lambda: Proposals(prediction, class_agnostic=True)


@pytest.mark.parametrize('shared', [True, False])
def test_queries_can_ask_the_head_for_proposals(shared: bool) -> None:
    head = dict(type='SetHead', encoder=True, shared=shared, refine='iterative')
    model = make(queries=dict(type=BestTokens), head=head)
    outputs = run(model)
    assert outputs['enc_logits'].shape == (2, 24, 3)
    assert outputs['enc_boxes'].shape == (2, 24, 4)
    losses = lives(model)
    assert {'enc_loss_cls', 'enc_loss_bbox', 'enc_loss_iou'} <= set(losses)
    model.zero_grad()
    losses['enc_loss_bbox'].backward()
    trained = [branch.layers[-1].bias.grad is not None for branch in model.head.box_branches]
    assert trained == [False] * (1 if shared else 2) + [True]


# ---- 10: a mask head needs the last content, the memory and the backbone's maps ------------------


class DotProductMasks(MaskHead):
    def __init__(self, in_channels: Sequence[int], embed_dims: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(in_channels[0], embed_dims, 1)

    def forward(self, predictions: Sequence[Prediction], features: Features) -> DenseMasks:
        coarse = nn.functional.interpolate(features.memory.maps()[0], scale_factor=2)
        pixels = self.fine(features.levels[0]) + coarse
        return DenseMasks(torch.einsum('bnc,bchw->bnhw', predictions[-1].hidden, pixels))


def test_mask_head_is_given_content_memory_and_maps() -> None:
    masks = dict(loss_mask=dict(type='MaskFocalLoss'), loss_dice=dict(type='MaskDiceLoss'))
    criterion = {**CRITERION, 'losses': {**CRITERION['losses'], **masks}}
    model = make(mask_head=dict(type=DotProductMasks), criterion=criterion)
    assert run(model)['pred_masks'].shape == (2, QUERIES, 8, 12)
    losses = lives(model)
    assert {'loss_mask', 'loss_dice'} <= set(losses)
    images, samples = data()
    (first, _) = model.predict(images, samples)
    assert first.pred_instances.masks.shape == (3 * QUERIES, *SIZE)
    model.zero_grad()
    losses['loss_mask'].backward()
    parts = (model.backbone.fine, model.neck, model.decoder.norm, model.mask_head)
    for part in parts:
        assert all(p.grad is not None for p in part.parameters())
