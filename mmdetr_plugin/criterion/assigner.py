"""One-to-one matching of queries and objects."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor

from ..ops.assignment import solve
from ..ops.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from ..ops.precision import full_precision
from ..registry import TASK_UTILS
from ..structures.targets import USABLE
from .costs import CostInputs, MatchCost, build_cost
from .notices import MatchingNotices
from .sources import Matches, Source

NOT_KEPT = 1e6  # far above any cost


class Assigner:
    """``assigner.match(sources, num_classes)``: the pairs of queries and objects of every source.

    Attributes:
        costs: the terms of the cost.
    """

    costs: Sequence[Callable]

    @abstractmethod
    def match(self, sources: Sequence[Source], num_classes: int) -> list[Matches]:
        """Match every layer of every source.

        Raises:
            ValueError: a label is outside [0, num_classes).
        """


@TASK_UTILS.register_module()
class HungarianAssigner(Assigner, BaseAssigner):
    """Hungarian matching (DETR, equation 1) of all layers and images of a step at once.

    Queries with NaN or infinite costs are matched with no object, and a warning is logged.

    Args:
        match_costs: a list as in mmdet. FocalLossCost, ClassificationCost, BBoxL1Cost, IoUCost and our
            :class:`~mmdetr_plugin.criterion.costs.QualityCost` are computed for the whole step at
            once; any other type, including a user's own, image by image.
        max_nonfinite_steps: if more steps in a row have such costs, FloatingPointError is raised.
    """

    def __init__(
        self,
        match_costs: Sequence[Mapping[str, Any]] | Mapping[str, Any],
        max_nonfinite_steps: int = 50,
    ) -> None:
        if isinstance(match_costs, Mapping):
            match_costs = [match_costs]
        if not match_costs:
            raise ValueError('match_costs must name at least one cost, got an empty list')
        self.costs: list[MatchCost] = [
            build_cost(cfg, f'match_costs.{i}') for i, cfg in enumerate(match_costs)
        ]
        self.notices = MatchingNotices(max_nonfinite_steps)

    @torch.no_grad()
    def match(self, sources: Sequence[Source], num_classes: int) -> list[Matches]:
        """Match every layer of every source: one copy to the host, one copy back.

        Raises ValueError for a label outside [0, num_classes).
        """
        costs, status = self._costs_on_host(sources, num_classes)
        for source, codes in zip(sources, status):
            source.targets.check_labels(codes, num_classes)
        usable = [codes == USABLE for codes in status]
        solved = [solve(cost, mask) for cost, mask in zip(costs, usable)]
        self._report(sources, status[0], [s.nonfinite for s in solved])

        indices = [index for s in solved for index in (s.query, s.target)]
        packed = torch.from_numpy(np.concatenate([index.ravel() for index in indices]))
        parts = packed.to(sources[0].logits.device).split([index.size for index in indices])
        parts = [part.view(index.shape) for part, index in zip(parts, indices)]
        matches = [
            Matches(
                query,
                target,
                s.counts,
                tuple(mask.sum(1).tolist()),
                num_queries=cost.shape[2],
                num_slots=cost.shape[3],
                on_host=(s.query, s.target),
            )
            for query, target, s, mask, cost in zip(parts[::2], parts[1::2], solved, usable, costs)
        ]
        self.notices.unmatched(matches[0], sources[0].targets.image_names)
        return matches

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        img_meta: dict | None = None,
        **kwargs: Any,
    ) -> AssignResult:
        """Match one layer of one image: mmdet's interface.

        ``pred_instances`` has ``scores`` (N, K), logits, and ``bboxes`` (N, 4), xyxy in pixels of
        ``img_meta['img_shape']``; ``gt_instances`` has ``labels`` (T,) and ``bboxes`` (T, 4). Boxes or
        scores may be missing where no cost reads them, as in Mask2Former.

        Raises:
            ValueError: a cost reads what the instances lack.
        """
        labels = gt_instances.labels
        num_queries, num_objects = len(pred_instances), len(gt_instances)
        matched = labels.new_zeros(num_queries, dtype=torch.long)
        matched_labels = torch.full_like(matched, -1)
        if num_queries and num_objects:
            cost = self._cost_of_image(pred_instances, gt_instances, img_meta)
            solved = solve(cost.cpu().numpy()[None, None], np.ones((1, num_objects), bool))
            if solved.nonfinite:
                self.notices.nonfinite([(img_meta or {}).get('img_path', 'an image')])
            index = torch.from_numpy(np.stack((solved.query[0], solved.target[0])))
            query, target = index.to(labels.device)
            matched[query] = target + 1
            matched_labels[query] = labels[target]
        return AssignResult(num_objects, matched, max_overlaps=None, labels=matched_labels)

    def _costs_on_host(
        self, sources: Sequence[Source], num_classes: int
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Costs (L, B, N, T) and status of the objects (B, T) of every source."""
        shapes = [(*s.logits.shape[:3], max(s.targets.counts)) for s in sources]
        if not any(shape[-1] for shape in shapes):  # no object anywhere: nothing to wait for
            costs = [np.empty(shape, np.float32) for shape in shapes]
            return costs, [np.empty((shape[1], 0), np.uint8) for shape in shapes]
        parts = [self._costs(source) for source in sources]
        parts += [s.targets.status(num_classes).to(parts[0].dtype) for s in sources]
        host = torch.cat([part.flatten() for part in parts]).cpu().numpy()
        arrays = np.split(host, np.cumsum([part.numel() for part in parts])[:-1])
        arrays = [array.reshape(part.shape) for array, part in zip(arrays, parts)]
        return arrays[: len(sources)], arrays[len(sources) :]

    def _costs(self, source: Source) -> Tensor:
        """(L, B, N, T); queries that are not kept get an object only if too few others are left."""
        inputs = _inputs(source)
        total = reduce(operator.add, (cost(inputs) for cost in self.costs))
        return total if source.kept is None else total + NOT_KEPT * ~source.kept[..., None]

    def _report(
        self,
        sources: Sequence[Source],
        status: np.ndarray,
        nonfinite: Sequence[Sequence[tuple[int, int]]],
    ) -> None:
        self.notices.degenerate(status, sources[0].targets.image_names)
        where = []
        for source, places in zip(sources, nonfinite):
            if places:
                finite = self._finite_terms(source)
                for layer, image in places:
                    terms = [term for term, ok in finite.items() if not ok[layer, image]]
                    name = source.targets.image_names[image]
                    where.append(f'{source.name.format(layer)}, {name} ({", ".join(terms)})')
        self.notices.end_step(where)

    def _finite_terms(self, source: Source) -> dict[str, np.ndarray]:
        """For each term, (L, B): whether it is finite. Computed again, as only faulty steps need it."""
        inputs, ignored = _inputs(source), ~source.targets.is_object[:, None]
        return {
            cost.term: (cost(inputs).isfinite() | ignored).flatten(-2).all(-1).cpu().numpy()
            for cost in self.costs
        }

    def _cost_of_image(
        self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None
    ) -> Tensor:
        """(N, T) costs of boxes in pixels; costs of other types get the instances themselves."""
        self._check_fields(pred_instances, gt_instances)
        pred, gt = (_boxes(instances) for instances in (pred_instances, gt_instances))
        height, width = (img_meta or {}).get('img_shape', (1, 1))[:2]
        inputs = CostInputs(
            logits=full_precision(pred_instances.get('scores', pred)),
            labels=gt_instances.labels,
            pred_cxcywh=xyxy_to_cxcywh(pred),
            pred_xyxy=pred,
            gt_cxcywh=xyxy_to_cxcywh(gt),
            gt_xyxy=gt,
            size=pred.new_tensor((width, height, width, height)),
        )
        terms = [
            cost.of_image(inputs, pred_instances, gt_instances, img_meta) for cost in self.costs
        ]
        return torch.stack(terms).sum(0).detach()

    def _check_fields(self, pred: InstanceData, gt: InstanceData) -> None:
        for cost in self.costs:
            owners = (
                {'predictions': pred, 'objects': gt}
                if cost.reads == 'bboxes'
                else {'predictions': pred}
            )
            lacking = [name for name, instances in owners.items() if cost.reads not in instances]
            if cost.reads and lacking:
                raise ValueError(
                    f'the {cost.term} cost needs {cost.reads} of the {" and ".join(lacking)}, got '
                    f'{sorted(pred.keys())} and {sorted(gt.keys())}; add them, or leave out this cost'
                )


def _boxes(instances: InstanceData) -> Tensor:
    """(N, 4) in single precision; zeros where there are none, which no cost reads then."""
    boxes = instances.get('bboxes')
    if boxes is None:
        value = next(iter(instances.values()))
        return torch.zeros(len(instances), 4, device=value.device)
    return full_precision(get_box_tensor(boxes))


def _inputs(source: Source) -> CostInputs:
    logits, boxes = full_precision(source.logits), full_precision(source.boxes)
    objects = source.targets.padded_boxes.to(boxes.dtype)
    return CostInputs(
        logits=logits,
        labels=source.targets.padded_labels.clamp(0, logits.shape[-1] - 1),  # checked on the host
        pred_cxcywh=boxes,
        pred_xyxy=cxcywh_to_xyxy(boxes),
        gt_cxcywh=objects,
        gt_xyxy=cxcywh_to_xyxy(objects),
    )
