"""Comparing what an exported file finds with what the model finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmdet.structures import DetDataSample
from torch import Tensor

from ..detector import DETR
from ..structures import Size
from .graph import DetectionGraph
from .interface import Interface

Run = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""A file that was loaded: inputs by name -> outputs by name."""

SCORES, PIXELS, MASKS = 1e-3, 0.5, 1e-2
"""Largest differences allowed in single precision: of scores, of sides of boxes in pixels, of the
probability of a pixel of a mask."""
ROUNDING = 4
"""Scores closer to the lowest one than this many differences of scores count as equal to it."""


@dataclass(frozen=True)
class Difference:
    """The largest differences of scores, boxes (pixels) and masks (probabilities)."""

    scores: float = 0.0
    boxes: float = 0.0
    masks: float = 0.0

    def __or__(self, other: Difference) -> Difference:
        """The larger ones of both."""
        return Difference(
            max(self.scores, other.scores),
            max(self.boxes, other.boxes),
            max(self.masks, other.masks),
        )

    def within(self, factor: float = 1.0) -> bool:
        """Whether all are within ``factor`` times the tolerance; False for NaN."""
        return (
            self.scores <= factor * SCORES
            and self.boxes <= factor * PIXELS
            and self.masks <= factor * MASKS
        )

    @staticmethod
    def limits(factor: float = 1.0) -> str:
        """The tolerances, in words."""
        return str(Difference(factor * SCORES, factor * PIXELS, factor * MASKS))

    def __str__(self) -> str:
        masks = f', masks {self.masks:.1e}' if self.masks else ''
        return f'scores {self.scores:.1e}, boxes {self.boxes:.1e} pixels{masks}'


def cases(interface: Interface) -> list[tuple[int, Size]]:
    """Batches and sizes to compare: two of each, or one size where it is fixed."""
    step = interface.divisor
    sizes = [interface.fixed] if interface.fixed else [_near(256, 320, step), _near(320, 224, step)]
    return [(batch, size) for size in sizes for batch in (1, 2)]


def _near(height: int, width: int, step: int) -> Size:
    return max(1, round(height / step)) * step, max(1, round(width / step)) * step


def pictures(interface: Interface, batch: int, size: Size) -> list[np.ndarray]:
    """Smooth random pictures (h, w, 3), uint8, RGB, that fit into ``size``: the first fills it; the
    others are smaller, if pictures can be."""
    out = []
    for i in range(batch):
        shrink = i if interface.keep_ratio else 0
        height, width = size[0] - shrink * size[0] // 8, size[1] - shrink * size[1] // 5
        generator = torch.Generator().manual_seed(i)
        coarse = torch.rand(1, 3, 9, 9, generator=generator)
        fine = torch.rand(1, 3, height, width, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode='bicubic')
        mixed = (255 * (0.85 * smooth + 0.15 * fine)).clamp(0, 255).round()
        out.append(mixed[0].permute(1, 2, 0).to(torch.uint8).numpy())
    return out


def inputs_of(interface: Interface, images: Sequence[np.ndarray], size: Size) -> dict:
    """The inputs of a graph for pictures (h, w, 3) that stand in images of ``size``."""
    canvas = np.zeros((len(images), 3, *size), np.uint8)
    for row, image in zip(canvas, images, strict=True):
        row[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1)
    sizes = np.array([image.shape[:2] for image in images], np.int64)
    return {'images': canvas, **({'sizes': sizes} if interface.keep_ratio else {})}


@torch.no_grad()
def expected(model: DETR, images: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What the model finds in pictures (h, w, 3), RGB: boxes in their pixels, scores, labels."""
    samples, tensors = [], []
    for i, image in enumerate(images):
        shape = image.shape[:2]
        meta = {'img_shape': shape, 'ori_shape': shape, 'scale_factor': (1.0, 1.0), 'img_id': i}
        samples.append(DetDataSample(metainfo=meta))
        pixels = np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))
        tensors.append(torch.from_numpy(pixels))
    made = model.val_step({'inputs': tensors, 'data_samples': samples})
    return [
        {
            'boxes': _array(sample.pred_instances.bboxes),
            'scores': _array(sample.pred_instances.scores),
            'labels': _array(sample.pred_instances.labels),
        }
        for sample in made
    ]


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().float().numpy()


def difference(
    got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float = SCORES
) -> Difference:
    """How far the detections of one image are apart.

    Detections of nearly equal scores may swap places, so each is compared with the one of its class
    whose box is nearest among those whose score is within ``tolerance``; where there is none, the boxes
    count as infinitely far apart. Those with the lowest scores, up to rounding, may have no
    counterpart: others with such scores did not get in. Scores are compared in their order.

    Args:
        got: rows of a graph, with those that hold nothing.
        wanted: detections of the model.
    """
    rows = got['labels'] >= 0
    boxes, scores, labels = (got[name][rows] for name in ('boxes', 'scores', 'labels'))
    if len(scores) != len(wanted['scores']):
        number = max(len(scores), len(wanted['scores']))
        scores, theirs = (np.pad(x, (0, number - len(x))) for x in (scores, wanted['scores']))
        return Difference(float(np.abs(np.sort(scores) - np.sort(theirs)).max()), float('inf'))
    if not len(scores):
        return Difference()
    theirs = wanted['scores']
    ranked = np.abs(np.sort(scores) - np.sort(theirs)).max()
    lowest = max(scores.min(), theirs.min()) + ROUNDING * ranked
    near = np.abs(scores[:, None] - theirs) <= tolerance
    near &= labels[:, None] == wanted['labels']
    apart = np.abs(boxes[:, None] - wanted['boxes']).max(-1)
    nearest = np.where(near, apart, np.inf)
    if scores.max() <= lowest:  # all are equal
        lowest = -np.inf
    counted = nearest.min(1)[scores > lowest], nearest.min(0)[theirs > lowest]
    return Difference(float(ranked), float(max(x.max(initial=0.0) for x in counted)))


def compare(
    run: Run,
    model: DETR,
    interface: Interface,
    tolerance: float = SCORES,
    trials: Sequence[tuple[int, Size]] | None = None,
) -> Difference:
    """The largest differences of some trials (pictures at once, size); None = all :func:`cases`."""
    worst = Difference()
    graph = None if model.mask_head is None else DetectionGraph(model)
    for batch, size in cases(interface) if trials is None else trials:
        images = pictures(interface, batch, size)
        inputs = inputs_of(interface, images, size)
        outputs = run(inputs)
        for i, wanted in enumerate(expected(model, images)):
            got = {name: value[i] for name, value in outputs.items()}
            worst |= difference(got, wanted, tolerance)
        if graph is not None:
            worst |= Difference(masks=mask_difference(outputs, graph, inputs))
    return worst


@torch.no_grad()
def mask_difference(
    outputs: dict[str, np.ndarray], graph: DetectionGraph, inputs: dict[str, np.ndarray]
) -> float:
    """The largest difference of a pixel's probability from that of the graph run by PyTorch, each mask
    compared with that of the nearest box."""
    found = graph.find(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    apart = torch.from_numpy(outputs['boxes'])[:, :, None] - found.boxes[:, None]
    nearest = apart.abs().amax(-1).argmin(-1)[..., None, None]
    assert found.masks is not None  # the model has a mask head
    theirs = found.masks.gather(1, nearest.expand_as(found.masks))
    return float((torch.from_numpy(outputs['masks']) - theirs).abs().max())
