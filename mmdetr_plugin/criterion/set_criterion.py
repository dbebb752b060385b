"""The training objective of the whole family."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.registry import Registry
from torch import Tensor, nn

from ..build import build_slot
from ..registry import MODELS, TASK_UTILS
from .distributed import mean_over_ranks
from .masks import mask_losses, matched_masks
from .sources import Matches, Source, collect_sources, full_precision
from .targets import Targets, select

Config = Mapping[str, Any]
LOSSES = {
    'loss_cls': 'FocalClassLoss',
    'loss_bbox': 'BoxL1Loss',
    'loss_iou': 'BoxGIoULoss',
}
Masks = Tensor | Callable[[Tensor], Tensor]


@MODELS.register_module()
class SetCriterion(nn.Module):
    """Match the queries of every layer with the objects, then classify and locate them.

    DETR, section 3.1. The same operations run whatever the objects are: in a batch without any, box
    losses are 0 but still depend on every prediction.

    Args:
        num_classes: labels are below it; a softmax class head has one more column.
        assigner: a HungarianAssigner.
        loss_cls: FocalClassLoss or SoftmaxClassLoss; None switches the term off.
        loss_bbox: BoxL1Loss or None.
        loss_iou: BoxGIoULoss or None.
        loss_mask: MaskFocalLoss or None; trains the masks of the last layer, if there are any.
        loss_dice: MaskDiceLoss or None; as ``loss_mask``.
        encoder: train the proposals of a two-stage model, if there are any.
    """

    def __init__(
        self,
        num_classes: int,
        assigner: Config | nn.Module,
        loss_cls: Config | None = None,
        loss_bbox: Config | None = None,
        loss_iou: Config | None = None,
        loss_mask: Config | None = None,
        loss_dice: Config | None = None,
        encoder: bool = True,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.assigner = _part(TASK_UTILS, assigner, 'assigner', 'match', 'HungarianAssigner')
        self.loss_cls = _part(MODELS, loss_cls, 'loss_cls', 'of_layers', LOSSES['loss_cls'])
        self.loss_bbox = _part(MODELS, loss_bbox, 'loss_bbox', 'of_layers', LOSSES['loss_bbox'])
        self.loss_iou = _part(MODELS, loss_iou, 'loss_iou', 'of_layers', LOSSES['loss_iou'])
        self.loss_mask = build_slot(MODELS, loss_mask, 'criterion.loss_mask')
        self.loss_dice = build_slot(MODELS, loss_dice, 'criterion.loss_dice')
        self.encoder = encoder

    def forward(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Weighted losses by name, and scalars to log whose names do not contain ``loss``.

        The last layer's losses are ``loss_cls``, ``loss_bbox``, ``loss_iou``; those of other layers
        begin with ``d0.``, ``d1.``, ..., those of the encoder's proposals with ``enc_``. Masks of
        the last layer add ``loss_mask`` and ``loss_dice``.

        Args:
            outputs: ``pred_logits`` (L, B, N, K) and ``pred_boxes`` (L, B, N, 4), cxcywh in 0..1;
                with two stages ``enc_logits`` (B, S, K) and ``enc_boxes`` (B, S, 4); with masks
                ``pred_masks``, logits (B, N, h, w), or a function that computes those (M, h, w) of
                the flat query indices (M,), image * N + query.
            targets: the objects of the B images.

        Raises:
            ValueError: a label outside [0, num_classes), or a class head of another width.
            FloatingPointError: too many steps in a row with non-finite predictions.
        """
        device = outputs['pred_logits'].device
        with torch.autocast(device.type, enabled=False):
            sources = self._sources(outputs, targets)
            matches = self.assigner.match(sources, self.num_classes)
            num_boxes = mean_over_ranks([sum(m.objects) for m in matches], device).clamp(min=1)
            losses = {}
            for source, match, count in zip(sources, matches, num_boxes.unbind()):
                losses.update(self._losses(source, match, count))
            losses.update(statistics(sources[0], matches[0]))
        if 'pred_masks' in outputs:
            masks = outputs['pred_masks']
            losses.update(self._mask_losses(masks, targets, matches[0], num_boxes[0]))
        return losses

    @torch.no_grad()
    def match(
        self, outputs: dict[str, Tensor], targets: Targets
    ) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """(queries, objects) of each image, sorted by query, by the prefix of their losses."""
        sources = self._sources(outputs, targets)
        return {
            prefix: match.per_image(layer)
            for source, match in zip(sources, self.assigner.match(sources, self.num_classes))
            for layer, prefix in enumerate(source.prefixes)
        }

    def _sources(self, outputs: dict[str, Tensor], targets: Targets) -> list[Source]:
        sources = collect_sources(outputs, targets, self.encoder)
        if self.loss_cls is not None:
            for source in sources:
                self.loss_cls.check_width(source.logits.shape[-1], self.num_classes)
        return sources

    def _mask_losses(
        self, masks: Masks, targets: Targets, match: Matches, num_boxes: Tensor
    ) -> dict[str, Tensor]:
        chosen = {'loss_mask': self.loss_mask, 'loss_dice': self.loss_dice}
        chosen = {name: loss for name, loss in chosen.items() if loss is not None}
        if not chosen:
            return {}
        query = match.query[-1]
        # A mask head runs under the precision of the model, unlike what follows.
        pred = masks(query) if callable(masks) else masks.flatten(0, 1).index_select(0, query)
        with torch.autocast(pred.device.type, enabled=False):
            target = matched_masks(targets, match, pred.device)
            return mask_losses(chosen, pred, target, num_boxes)

    def _losses(self, source: Source, match: Matches, num_boxes: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.loss_cls is not None:
            logits = full_precision(source.logits).flatten(1, 2)
            labels = select(source.targets.padded_labels, match.target)
            terms['loss_cls'] = self.loss_cls.of_layers(logits, match.query, labels, num_boxes)
        boxes = full_precision(source.boxes).flatten(1, 2)  # (L, B * N, 4)
        pred = boxes.gather(1, match.query.unsqueeze(-1).expand(-1, -1, 4))
        gt = select(source.targets.padded_boxes, match.target)
        for name, loss in (('loss_bbox', self.loss_bbox), ('loss_iou', self.loss_iou)):
            if loss is not None:
                terms[name] = loss.of_layers(pred, gt, num_boxes)
        return {
            prefix + name: value
            for name, values in terms.items()
            for prefix, value in zip(source.prefixes, values.unbind())
        }


@torch.no_grad()
def statistics(source: Source, match: Matches) -> dict[str, Tensor]:
    """What DETR logs beside its losses, of the last layer.

    * ``class_error``: percentage of matched queries whose highest column is not their object's
      class; 100 without objects.
    * ``cardinality_error``: mean over images of the difference between the number of objects and
      of queries whose highest column is not the last.
    * ``unmatched_gt``: objects without a query.
    """
    highest = source.logits[-1].argmax(-1)  # (B, N)
    labels = select(source.targets.padded_labels, match.target[-1:])[0]
    correct = highest.flatten()[match.query[-1]] == labels
    found = (highest != source.logits.shape[-1] - 1).sum(1)
    return {
        'class_error': 100 - 100 * correct.sum() / max(correct.numel(), 1),
        'cardinality_error': (found - source.targets.is_object.sum(1)).abs().float().mean(),
        'unmatched_gt': torch.full((), float(match.unmatched), device=highest.device),
    }


def _part(registry: Registry, cfg: Config | Any | None, slot: str, face: str, ours: str) -> Any:
    """Build a part and see that it works on all layers at once, as mmdet's do not."""
    part = build_slot(registry, cfg, f'criterion.{slot}')
    if part is not None and not hasattr(part, face):
        raise ValueError(
            f'criterion.{slot} must be a part of this package that works on all layers at once, got '
            f"{type(part).__module__}.{type(part).__name__}; use type='mmdetr_plugin.{ours}'"
        )
    return part
