"""mmdet's region proposal network with separate towers, as TSP-RCNN has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import build_norm_layer
from mmdet.models.dense_heads import RPNHead
from mmengine.config import ConfigDict
from mmengine.model import normal_init
from torch import Tensor, nn

from ..ops.nms import apart, distinct

LEVELS = 5
NORM = {'type': 'SyncBN'}
ANCHORS = {
    'type': 'mmdet.AnchorGenerator',
    'octave_base_scale': 4,
    'scales_per_octave': 3,
    'ratios': [0.5, 1.0, 2.0],
    'strides': [8, 16, 32, 64, 128],
}
TRAIN = {
    'assigner': {
        'type': 'mmdet.MaxIoUAssigner',
        'pos_iou_thr': 0.7,
        'neg_iou_thr': 0.3,
        'min_pos_iou': 0.3,
        'match_low_quality': True,
        'ignore_iof_thr': -1,
    },
    'sampler': {
        'type': 'mmdet.RandomSampler',
        'num': 256,
        'pos_fraction': 0.5,
        'neg_pos_ub': -1,
        'add_gt_as_proposals': False,
    },
    'allowed_border': -1,
    'pos_weight': -1,
    'debug': False,
}


class SeparateRPNHead(RPNHead):
    """An RPN with a tower for objectness and another for boxes.

    The levels share the convolutions; norms after them belong to one level (TSP's code).

    Args:
        in_channels: channels of the maps.
        num_convs: convolutions of a tower.
        norm_cfg: config of the norms.
        kwargs: of mmdet's ``RPNHead``.
    """

    def __init__(
        self,
        in_channels: int,
        num_convs: int = 2,
        norm_cfg: dict[str, Any] = NORM,
        **kwargs: Any,
    ) -> None:
        self.norm_cfg = norm_cfg
        given: dict[str, Any] = {
            'feat_channels': in_channels,
            'anchor_generator': ANCHORS,
            'loss_cls': {'type': 'mmdet.CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0},
            'loss_bbox': {'type': 'mmdet.L1Loss', 'loss_weight': 2.0},
            'train_cfg': ConfigDict(TRAIN),
            **kwargs,
        }
        super().__init__(in_channels, num_convs=num_convs, **given)

    def _init_layers(self) -> None:
        self.towers = nn.ModuleDict(
            {
                kind: SharedTower(self.feat_channels, self.num_convs, self.norm_cfg)
                for kind in ('objectness', 'boxes')
            }
        )
        anchors = self.num_base_priors
        self.rpn_cls = nn.Conv2d(self.feat_channels, anchors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(self.feat_channels, anchors * self.bbox_coder.encode_size, 1)

    def init_weights(self) -> None:
        """Normal of standard deviation 0.01 for all convolutions."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                normal_init(part, std=0.01)

    def forward(self, x: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
        """Objectness (B, A, h, w) and deltas (B, 4 A, h, w) of every level."""
        objectness = [self.rpn_cls(y) for y in self.towers['objectness'](x)]
        deltas = [self.rpn_reg(y) for y in self.towers['boxes'](x)]
        return objectness, deltas

    def select(self, maps: Sequence[Tensor], image_wh: Tensor) -> tuple[Tensor, Tensor]:
        """What ``predict`` finds, with equally many regions for all images, as exported graphs need it.

        Args:
            maps: (B, C, h, w) per level.
            image_wh: (B, 2), width and height of the images without padding.

        Returns:
            Boxes (B, N, 4), xyxy in pixels, the best first; (B, N) bool, False for what fills up.
        """
        anchors = self.prior_generator.grid_priors(
            [x.shape[-2:] for x in maps], device=image_wh.device
        )
        levels = zip(*self(tuple(maps)), anchors, strict=True)
        found = [
            self._best(objectness, deltas, places, image_wh, i)
            for i, (objectness, deltas, places) in enumerate(levels)
        ]
        boxes, scores, numbers = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        valid = (boxes[..., 2:] - boxes[..., :2]).amin(-1) > self.test_cfg.min_bbox_size
        threshold = self.test_cfg.nms.iou_threshold
        kept = distinct(apart(boxes, numbers), scores, threshold, valid)
        ranked = torch.where(kept, scores, -1.0)
        scores, index = ranked.topk(self.test_cfg.max_per_img)
        return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores >= 0

    def _best(
        self, objectness: Tensor, deltas: Tensor, anchors: Tensor, image_wh: Tensor, level: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes (B, n, 4), scores (B, n) and the level (B, n) of the best anchors (S, 4) of a level."""
        scores = objectness.permute(0, 2, 3, 1).flatten(1).sigmoid()  # (B, S)
        deltas = deltas.permute(0, 2, 3, 1).reshape(scores.shape[0], -1, 4)
        scores, index = scores.topk(torch.sym_min(self.test_cfg.nms_pre, scores.shape[1]))
        places = index[..., None].expand(-1, -1, 4)
        chosen = anchors.expand_as(deltas).gather(1, places).flatten(0, 1)
        boxes = self.bbox_coder.decode(chosen, deltas.gather(1, places).flatten(0, 1))
        boxes = boxes.view(*index.shape, 4).clamp(min=0)
        boxes = torch.minimum(boxes, image_wh.repeat(1, 2)[:, None])
        return boxes, scores, torch.full_like(index, level)


class SharedTower(nn.Module):
    """Convolutions that the levels share, each followed by a norm for every level and ReLU."""

    def __init__(self, channels: int, num_convs: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1) for _ in range(num_convs)
        )
        self.norms = nn.ModuleList(
            build_norm_layer(norm_cfg, channels)[1] for _ in range(num_convs * LEVELS)
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """(B, C, h, w) of each level."""
        made = []
        for level, x in enumerate(maps):
            for i, conv in enumerate(self.convs):
                x = self.norms[i * LEVELS + level](conv(x)).relu()
            made.append(x)
        return made


def summed(losses: dict[str, Any]) -> dict[str, Tensor]:
    """The losses of mmdet, which come level by level, as single numbers."""
    return {
        name: torch.stack(list(value)).sum() if isinstance(value, (list, tuple)) else value
        for name, value in losses.items()
    }
