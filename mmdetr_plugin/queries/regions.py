"""Queries that are regions proposed by an RPN (TSP-RCNN)."""

from __future__ import annotations

from dataclasses import replace

import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..heads.base import Head
from ..ops.boxes import cxcywh_to_xyxy, pairwise_iou, xyxy_to_cxcywh
from ..ops.coordinates import sine_code
from ..ops.exporting import exporting
from ..ops.linear import Linear
from ..ops.precision import full_precision, no_autocast
from ..ops.regions import align_regions
from ..registry import MODELS
from ..structures import Branch, Memory, Proposals, RelativeReference, State, Targets
from .base import Made, QuerySource
from .rpn import SeparateRPNHead, summed

SIDE = 7
"""Cells of a region along each side."""
STRIDES = (4, 8, 16, 32)
"""Of the maps that regions are cut from."""


@MODELS.register_module()
class RegionProposals(QuerySource):
    """The best regions of an RPN (Sun et al., "Rethinking Transformer-based Set Prediction for Object
    Detection", ICCV 2021, section 4.3: TSP-RCNN).

    The content is a projection of the features in the region and of the code of its box; the code is
    the position. The RPN reads all maps but the finest, regions are cut from the four finest. Where
    losses are computed, a region whose IoU with an object is at least 0.5 may be matched with the
    object of the largest IoU; a random part of the regions is left out.

    Args:
        num_queries: largest number of regions of an image.
        map_dims: channels of the maps, of strides 4, 8, 16, 32, 64, 128.
        iou_threshold: of the RPN's suppression.
        positive: largest share of regions that may be matched.
        kept: limits of the share of regions that stays when losses are computed.
    """

    def __init__(
        self,
        num_queries: int,
        map_dims: int,
        embed_dims: int = 256,
        iou_threshold: float = 0.7,
        positive: float = 0.25,
        kept: tuple[float, float] = (0.7, 1.0),
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embed_dims = embed_dims
        self.positive = positive
        self.kept = kept
        nms = {'type': 'nms', 'iou_threshold': iou_threshold}
        select = {'max_per_img': num_queries, 'min_bbox_size': 0, 'nms': nms}
        self.train_select = ConfigDict({**select, 'nms_pre': 2000})
        # mmdet's check of class numbers passes over this name.
        self.rpn_head = SeparateRPNHead(map_dims, test_cfg=ConfigDict({**select, 'nms_pre': 1000}))
        self.rpn_head.init_weights()
        self.cut = SingleRoIExtractor(
            {'type': 'RoIAlign', 'output_size': SIDE, 'sampling_ratio': 0, 'aligned': True},
            out_channels=map_dims,
            featmap_strides=list(STRIDES),
        )
        self.token = Linear(map_dims * SIDE**2, embed_dims)
        self.place_code = Linear(embed_dims, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)
        for linear in (self.token, self.place_code):
            nn.init.xavier_uniform_(linear.weight)

    @property
    def separable(self) -> bool:
        return False

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        with no_autocast(memory.tokens.device):  # places are never in half precision
            # mmcv's RoIAlign takes maps in channels-last order for others and cuts the wrong places.
            maps = tuple(full_precision(x).contiguous() for x in memory.maps())
            return self._make(maps, memory, targets)

    def _make(self, maps: tuple[Tensor, ...], memory: Memory, targets: Targets | None) -> Made:
        if exporting() and targets is None:
            return self._selected(maps, memory), None
        samples = _samples(memory, targets)
        if targets is None:
            with torch.no_grad():
                found = self.rpn_head.predict(maps[1:], samples, rescale=False)
            return self._queries([one.bboxes for one in found], maps, memory), None
        losses, found = self.rpn_head.loss_and_predict(maps[1:], samples, self.train_select)
        chosen = [
            self._sample(one.bboxes.detach(), sample.gt_instances.bboxes)
            for one, sample in zip(found, samples, strict=True)
        ]
        state = self._queries([boxes for boxes, _ in chosen], maps, memory)
        candidates = pad_sequence([of for _, of in chosen], batch_first=True, padding_value=-1)
        branch = Branch(
            state.content.shape[1], candidates=candidates, trained=state.carry.get('kept')
        )
        return replace(state, branches=(branch,)), lambda: Proposals(losses=summed(losses))

    def first(self, number: int, memory: Memory, head: Head) -> Made:
        state, proposals = self(memory, head)
        return state.first(number), proposals

    def _queries(self, boxes: list[Tensor], maps: tuple[Tensor, ...], memory: Memory) -> State:
        """Queries of boxes (n_b, 4), xyxy in pixels of the network's input."""
        boxes = [box if len(box) else box.new_tensor([[0.0, 0.0, 1.0, 1.0]]) for box in boxes]
        counts = [len(box) for box in boxes]
        features = self.cut(maps[:4], bbox2roi(boxes)).flatten(1)
        units = [xyxy_to_cxcywh(box / wh.repeat(2)) for box, wh in zip(boxes, memory.image_wh)]
        code = self.code(torch.cat(units))
        content = self.norm(self.token(features) + self.place_code(code))
        content, pos, unit = (
            pad_sequence(list(x.split(counts)), batch_first=True)
            for x in (content, code, torch.cat(units))
        )
        number = torch.tensor(counts, device=pos.device)[:, None]
        kept = torch.arange(max(counts), device=pos.device) < number
        state = State(content, pos, RelativeReference(unit))
        if min(counts) == max(counts):
            return state
        mask = kept[:, None, None, :].expand(-1, -1, max(counts), -1)
        return replace(state, self_mask=mask).keep(kept=kept)

    def _selected(self, maps: tuple[Tensor, ...], memory: Memory) -> State:
        """The queries of an exported graph, equally many in all images."""
        boxes, kept = self.rpn_head.select(maps[1:], memory.image_wh)
        batch, number = kept.shape
        image = torch.arange(batch, dtype=boxes.dtype, device=boxes.device)
        image = image.repeat_interleave(number)
        rois = torch.cat((image[:, None], boxes.flatten(0, 1)), 1)
        levels = self.cut.map_roi_levels(rois, len(STRIDES))[:, None, None, None]
        features = torch.zeros((), device=boxes.device)
        for i, stride in enumerate(STRIDES):
            places = torch.cat((rois[:, :1], rois[:, 1:] / stride), 1)
            features = torch.where(levels == i, align_regions(maps[i], places, SIDE), features)
        unit = xyxy_to_cxcywh(boxes / memory.image_wh.repeat(1, 2)[:, None])
        code = self.code(unit.flatten(0, 1))
        content = self.norm(self.token(features.flatten(1)) + self.place_code(code))
        content, code = (x.unflatten(0, (batch, number)) for x in (content, code))
        mask = kept[:, None, None, :].expand(-1, -1, number, -1)
        return State(content, code, RelativeReference(unit), self_mask=mask).keep(kept=kept)

    def code(self, boxes: Tensor) -> Tensor:
        """(N, C): codes of (cx, cy, w, h, x0, y0, x1, y1) of boxes (N, 4), cxcywh in 0..1."""
        numbers = torch.cat((boxes, cxcywh_to_xyxy(boxes)), -1)
        return sine_code(numbers, self.embed_dims // numbers.shape[-1]).flatten(1)

    @torch.no_grad()
    def _sample(self, boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Some of the boxes (n, 4), and the object that each may be matched with or -1."""
        best = of_objects(boxes, objects)
        if len(objects) and not (best >= 0).any():
            boxes = torch.cat((boxes, noised(objects)))
            best = of_objects(boxes, objects)
        order = torch.randperm(len(boxes), device=boxes.device)
        boxes, best = boxes[order], best[order]
        surplus = (best >= 0).cumsum(0) > int(self.positive * self.num_queries)
        stays = ~(surplus & (best >= 0))
        share = torch.empty(()).uniform_(*self.kept).item()
        number = max(int(len(boxes) * share), 1)
        return boxes[stays][:number], best[stays][:number]


def of_objects(boxes: Tensor, objects: Tensor, threshold: float = 0.5) -> Tensor:
    """(n,): the object with the largest IoU, if that is at least ``threshold``, else -1."""
    if not len(objects):
        return torch.full((len(boxes),), -1, device=boxes.device)
    iou, best = pairwise_iou(boxes, objects).max(-1)
    return torch.where(iou >= threshold, best, -1)


def noised(boxes: Tensor) -> Tensor:
    """Boxes xyxy whose centres moved by up to a tenth of their size, their sizes times 0.8 to 1.25."""
    box = xyxy_to_cxcywh(boxes)
    centre, size = box[:, :2], box[:, 2:]
    centre = centre + (torch.rand_like(centre) * 2 - 1) * 0.1 * size
    size = size * 0.8 ** (torch.rand_like(size) * 2 - 1)
    return cxcywh_to_xyxy(torch.cat((centre, size), -1))


def _samples(memory: Memory, targets: Targets | None) -> list[DetDataSample]:
    """What mmdet's RPN wants to know of the images and their objects."""
    height, width = (4 * side for side in memory.shapes[0])
    samples = []
    for i, (w, h) in enumerate(memory.image_wh.tolist()):
        meta = {'img_shape': (h, w), 'pad_shape': (height, width), 'scale_factor': (1.0, 1.0)}
        sample = DetDataSample(metainfo=meta)
        if targets is not None:
            boxes = cxcywh_to_xyxy(targets.boxes[i]) * memory.image_wh[i].repeat(2)
            labels = torch.zeros_like(targets.labels[i])
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return samples
