"""A detector of toy parts in which any slot can be replaced, and what every model must live through."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdetr_plugin.compilation import decode
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.heads import Head
from mmdetr_plugin.queries import QuerySource
from mmdetr_plugin.queries.base import Made
from mmdetr_plugin.structures import LogitReference, Memory, State, Targets

WIDTH, QUERIES, SIZE = 16, 4, (32, 48)
COSTS = [dict(type='FocalLossCost', eps=1e-8), dict(type='BBoxL1Cost', box_format='xywh')]
CRITERION = dict(
    type='SetCriterion',
    assigner=dict(type='HungarianAssigner', match_costs=COSTS),
    losses=dict(
        loss_cls=dict(type='FocalClassLoss'),
        loss_bbox=dict(type='BoxL1Loss'),
        loss_iou=dict(type='BoxGIoULoss'),
    ),
)


class Patches(nn.Module):
    """Two maps, of strides 4 and 8."""

    out_channels = (6, 8)

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 8, 2, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.fine(images)
        return fine, self.coarse(fine)


class LastMap(nn.Module):
    """A neck of one map."""

    def __init__(self, in_channels: Sequence[int]) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels[-1], WIDTH, 1)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor]:
        return (self.project(maps[-1]),)


class Places(QuerySource):
    """Learned boxes; what a user writes knows nothing of denoising, groups or hybrid training."""

    def __init__(self, num_queries: int, embed_dims: int) -> None:
        super().__init__()
        self.boxes = nn.Embedding(num_queries, 4)
        self.content = nn.Embedding(num_queries, embed_dims)

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        ref, content = (
            x.weight.expand(len(memory.tokens), -1, -1) for x in (self.boxes, self.content)
        )
        return State(content, ref=LogitReference(ref)), None


def make(cross_attn: object = None, **parts: object) -> DETR:
    """A DETR of two decoder layers in which ``parts`` are replaced."""
    torch.manual_seed(0)
    attention = dict(type='CrossAttention', num_heads=2)
    layer = dict(
        self_attn=dict(type='SelfAttention', num_heads=2),
        cross_attn=cross_attn or attention,
        ffn=dict(type='FeedForward', hidden_dims=8),
    )
    default = dict(
        num_classes=3,
        embed_dims=WIDTH,
        dropout=0.0,
        backbone=dict(type=Patches),
        neck=dict(type=LastMap, in_channels=[8]),
        position=dict(type='SinePosition'),
        queries=dict(type='LearnedQueries', num_queries=QUERIES),
        decoder=dict(type='Decoder', num_layers=2, layer=layer),
        head=dict(type='SetHead'),
        criterion=CRITERION,
        postprocess=dict(type='SigmoidTopK'),
    )
    return DETR(**{**default, **parts}).eval()


def data(objects: int = 2) -> tuple[Tensor, list[DetDataSample]]:
    """Two images of 32 x 48 pixels."""
    torch.manual_seed(1)
    boxes = torch.tensor([[4.0, 4, 20, 20], [10.0, 8, 40, 30]])[:objects]
    samples = [DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE)) for _ in range(2)]
    for sample in samples:
        labels = torch.zeros(objects, dtype=torch.long)
        masks = BitmapMasks([np.ones(SIZE, np.uint8)] * objects, *SIZE)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=masks)
    return torch.randn(2, 3, *SIZE), samples


def run(model: DETR) -> dict[str, Tensor]:
    return model(*data(), mode='tensor')


def lives(model: DETR, unused: Sequence[str] = ()) -> dict[str, Tensor]:
    """The losses of a training step; the model also does everything else that a run asks of it.

    Args:
        unused: beginnings of the names of parameters that no loss depends on, by their nature.
    """
    for objects in (2, 0):
        model.train().zero_grad()
        losses = model.loss(*data(objects))
        sum(value for key, value in losses.items() if 'loss' in key).backward()
        without = [name for name, p in model.named_parameters() if p.grad is None]
        assert [name for name in without if not name.startswith(tuple(unused))] == []
        assert all(value.isfinite() for value in losses.values())
    model.eval()
    images, samples = data()
    for found in (
        model.predict(images, copy.deepcopy(samples)),
        model.val_step({'inputs': 50 * images.abs(), 'data_samples': copy.deepcopy(samples)}),
    ):
        assert [len(sample.pred_instances) for sample in found] == [3 * QUERIES] * 2
    for part in model.modules():
        getattr(part, 'seen', []).clear()  # tensors of a graph cannot be copied
    other = copy.deepcopy(model)
    expected = run(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(model.state_dict())
    torch.compiler.reset()
    compiled = torch.compile(decode, backend='eager', fullgraph=True)
    other.compiled = other.compiled._replace(decode=compiled)
    got = run(other)
    assert set(got) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, msg=name)
    return model.train().loss(*data())
