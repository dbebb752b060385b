"""Queries that are locations of feature maps, chosen by a dense classifier (TSP-FCOS)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from mmdet.models.dense_heads import FCOSHead
from mmengine.model import normal_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..criterion.distributed import mean_over_ranks
from ..heads.base import Head
from ..ops.boxes import cxcywh_to_xyxy
from ..ops.linear import Linear
from ..registry import MODELS
from ..structures import Branch, CellReference, Memory, Proposals, State, Targets
from .base import Made, QuerySource


class LocalClassifier(FCOSHead):
    """The towers, the class predictor and the rule of positive locations of mmdet's FCOS head."""

    def _init_layers(self) -> None:
        self._init_cls_convs()
        self._init_reg_convs()
        self.conv_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)

    def init_weights(self) -> None:
        """Normal of standard deviation 0.01 for all convolutions, each class at 0.01."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                normal_init(part, std=0.01)
        normal_init(self.conv_cls, std=0.01, bias=-math.log(99))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K, h, w) and both towers' features (B, 2 C, h, w) of one map."""
        classes, boxes = x, x
        for conv in self.cls_convs:
            classes = conv(classes)
        for conv in self.reg_convs:
            boxes = conv(boxes)
        return self.conv_cls(classes), torch.cat((classes, boxes), 1)

    @torch.no_grad()
    def objects(self, memory: Memory, targets: Targets) -> Tensor:
        """(B, S): the object of every location by the rule of FCOS, -1 where there is none."""
        points = self.prior_generator.grid_priors(memory.shapes, device=memory.tokens.device)
        found = []
        for wh, boxes in zip(memory.image_wh, targets.boxes, strict=True):
            pixels = cxcywh_to_xyxy(boxes) * wh.repeat(2)
            # The rule returns the labels of the objects, and ``num_classes`` for background: it is
            # given numbers that no class has.
            numbers = -1 - torch.arange(len(boxes), device=boxes.device)
            objects = InstanceData(bboxes=pixels, labels=numbers)
            labels, _ = self.get_targets(points, [objects])
            labels = torch.cat(labels)
            found.append(torch.where(labels < 0, -1 - labels, -1))
        return torch.stack(found)


@MODELS.register_module()
class FeaturesOfInterest(QuerySource):
    """The locations of the maps with the best class scores (Sun et al., "Rethinking Transformer-based
    Set Prediction for Object Detection", ICCV 2021, section 4.2: TSP-FCOS).

    The content is a projection of the features in both towers of a dense classifier, which is trained
    as in FCOS. Where losses are computed, locations that FCOS would train rank higher, and a random
    part of the queries is left out, the same ranks in all images.

    Args:
        num_queries: number of locations.
        map_dims: channels of the maps.
        strides: of the maps.
        radius: of the positive locations around the centre of an object, in strides.
        kept: limits of the share of queries that stays when losses are computed.
    """

    def __init__(
        self,
        num_queries: int,
        num_classes: int,
        map_dims: int,
        embed_dims: int = 256,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        radius: float = 1.5,
        kept: tuple[float, float] = (0.7, 1.0),
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.strides = tuple(strides)
        self.kept = kept
        self.local = LocalClassifier(
            num_classes,
            map_dims,
            feat_channels=map_dims,
            strides=list(strides),
            center_sampling=True,
            center_sample_radius=radius,
            conv_bias=True,
        )
        self.local.init_weights()
        self.token = Linear(2 * map_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)

    @property
    def separable(self) -> bool:
        return False

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        return self._make(self.num_queries, memory, targets)

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        return self._make(number, memory, None)

    def _make(self, number: int, memory: Memory, targets: Targets | None) -> Made:
        made = [self.local(x) for x in memory.maps()]
        logits, features = (torch.cat([x.flatten(2).mT for x in xs], 1) for xs in zip(*made))
        objects = None if targets is None else self.local.objects(memory, targets)
        scores = logits.detach().sigmoid().amax(-1, keepdim=True)
        if objects is not None:
            scores = torch.where(objects[..., None] >= 0, (scores + 1) / 2, scores)
        index = self.best(scores, number)
        if objects is not None:
            index = index[:, self.subset(index.shape[1], index.device)]

        def pick(values: Tensor) -> Tensor:
            values = values.expand(index.shape[0], *values.shape[1:])
            return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))

        cells, levels = self.cells(memory)
        state = State(
            self.norm(self.token(pick(features))),
            pick(memory.pos),
            CellReference(pick(cells)),
        ).keep(level=pick(levels[None, :, None])[..., 0])
        if targets is None or objects is None:
            return state, None
        candidates = objects.gather(1, index)
        branch = Branch(index.shape[1], candidates=candidates)
        return replace(state, branches=(branch,)), lambda: Proposals(
            losses={'loss_cls': self.loss(logits, objects, targets)}
        )

    def best(self, scores: Tensor, number: int) -> Tensor:
        """(B, N): the locations with the largest scores (B, S, 1)."""
        return scores[..., 0].topk(min(number, scores.shape[1]), 1).indices

    def subset(self, number: int, device: torch.device) -> Tensor:
        """The ranks that stay when losses are computed."""
        share = torch.empty(()).uniform_(*self.kept).item()
        return torch.randperm(number, device=device)[: max(int(number * share), 1)]

    def cells(self, memory: Memory) -> tuple[Tensor, Tensor]:
        """Centre and size (B, S, 4) of the cells, 0..1 in the unpadded image, and their levels (S,)."""
        device = memory.tokens.device
        points = self.local.prior_generator.grid_priors(memory.shapes, device=device)
        sizes = [torch.full_like(p, stride) for p, stride in zip(points, self.strides)]
        levels = [torch.full((p.shape[0],), i, device=device) for i, p in enumerate(points)]
        pixels = torch.cat((torch.cat(points), torch.cat(sizes)), -1)
        return pixels / memory.image_wh.repeat(1, 2)[:, None], torch.cat(levels)

    def loss(self, logits: Tensor, objects: Tensor, targets: Targets) -> Tensor:
        """The focal loss of the dense classifier, summed and divided by the positive locations."""
        numbers = objects.clamp(min=0)
        padded = targets.padded_labels
        if not padded.shape[1]:
            padded = numbers.new_zeros(len(numbers), 1)
        background = logits.shape[-1]
        labels = torch.where(objects >= 0, padded.gather(1, numbers), background)
        positives = mean_over_ranks((objects >= 0).sum().float()).clamp(min=1)
        return self.local.loss_cls(logits.flatten(0, 1).float(), labels.flatten(), None, positives)
