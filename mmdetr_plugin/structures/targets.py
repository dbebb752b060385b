"""Ground truth of a batch, kept on its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import get_box_tensor
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..ops.boxes import xyxy_to_cxcywh

PADDING, USABLE, DEGENERATE, BAD_LABEL = range(4)


@dataclass(frozen=True)
class Targets:
    """Objects of B images: labels (n_b,) and boxes (n_b, 4), cxcywh in 0..1 of the unpadded image.

    Nothing here waits for the device. The host must know which boxes have no area and which labels
    are out of range: ``status`` says so, and the assigner copies it together with its costs.

    ``masks`` holds the ``gt_instances.masks`` of each image, or None; ``canvas`` is the (height,
    width) of the padded batch. Only the mask losses read them. ``copies`` says how
    often each object stands in the list of its image; () = once. ``values`` are further tensors (n_b,
    ...) of the objects, by the names under which losses ask for them.
    """

    labels: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    image_names: tuple[str, ...]
    masks: tuple[Any, ...] = ()
    canvas: tuple[int, int] = (0, 0)
    copies: tuple[int, ...] = ()
    values: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = [len(self.labels), len(self.boxes), len(self.image_names)]
        if len(set(counts)) > 1:
            raise ValueError(
                'labels, boxes and image_names must have one entry per image, '
                f'got {counts[0]}, {counts[1]} and {counts[2]}'
            )

    @classmethod
    def from_samples(cls, data_samples: SampleList, num_classes: int) -> Targets:
        """Read ``gt_instances`` (boxes xyxy in pixels) and ``img_shape`` (h, w), without padding.

        Raises:
            ValueError: a label outside [0, num_classes). Labels on a GPU are checked later, when the
                assigner has copied them to the host.
        """
        instances = [sample.gt_instances for sample in data_samples]
        labels = tuple(instance.labels for instance in instances)
        boxes = [get_box_tensor(instance.bboxes) for instance in instances]
        counts = [len(box) for box in boxes]
        sizes = np.array([sample.img_shape[1::-1] * 2 for sample in data_samples], np.float32)
        pixels = torch.cat(boxes).float()
        scale = torch.from_numpy(sizes.repeat(counts, 0)).to(pixels.device, non_blocking=True)
        targets = cls(
            labels,
            (xyxy_to_cxcywh(pixels) / scale).split(counts),
            tuple(_image_name(sample.metainfo) for sample in data_samples),
            tuple(instance.get('masks') for instance in instances),
            _canvas(data_samples),
        )
        if pixels.device.type == 'cpu' and any(counts):
            targets.check_labels(targets.status(num_classes).numpy(), num_classes)
        return targets

    @property
    def counts(self) -> tuple[int, ...]:
        """Objects of each image, those without an area included."""
        return tuple(len(labels) for labels in self.labels)

    @cached_property
    def padded_labels(self) -> Tensor:
        """(B, T), T the largest count; padding is 0."""
        return pad_sequence(list(self.labels), batch_first=True)

    @cached_property
    def padded_boxes(self) -> Tensor:
        """(B, T, 4); a padding box lies inside the image and has an area."""
        return pad_sequence(list(self.boxes), batch_first=True, padding_value=0.5)

    def padded_values(self, name: str) -> Tensor:
        """(B, T, ...): a value of all objects, 0 for padding.

        Raises:
            ValueError: there is none of this name.
        """
        if name not in self.values:
            raise ValueError(
                f'a loss reads the value {name!r} of the objects, got {sorted(self.values)}; choose '
                'queries that make it, or remove the loss'
            )
        return pad_sequence(list(self.values[name]), batch_first=True)

    def with_values(self, **values: Tensor) -> Targets:
        """The objects with further ``values`` (B, T, ...).

        Raises:
            ValueError: an image does not have T objects.
        """
        for name, value in values.items():
            if any(count != value.shape[1] for count in self.counts):
                raise ValueError(
                    f'each image must have an object for each {name}, got {list(self.counts)} '
                    f'objects and {value.shape[1]} values; check the pipeline of the data'
                )
        split = {name: tuple(value.unbind()) for name, value in values.items()}
        return replace(self, values={**self.values, **split})

    @cached_property
    def is_present(self) -> Tensor:
        """(B, T), False for padding."""
        ones = [torch.ones_like(labels, dtype=torch.bool) for labels in self.labels]
        return pad_sequence(ones, batch_first=True)

    @cached_property
    def is_object(self) -> Tensor:
        """(B, T), True for boxes with an area: only these are matched and trained."""
        return self.is_present & (self.padded_boxes[..., 2:] > 0).all(-1)

    def status(self, num_classes: int) -> Tensor:
        """(B, T) of PADDING, USABLE, DEGENERATE (no area) or BAD_LABEL; uint8."""
        bad = (self.padded_labels < 0) | (self.padded_labels >= num_classes)
        status = torch.where(self.is_object, USABLE, DEGENERATE)
        status = torch.where(bad, BAD_LABEL, status)
        return torch.where(self.is_present, status, PADDING).to(torch.uint8)

    def check_labels(self, status: np.ndarray, num_classes: int) -> None:
        """Raise ValueError if ``status`` (B, T), copied to the host, holds a BAD_LABEL."""
        wrong = np.argwhere(status == BAD_LABEL)
        if len(wrong):
            image, index = wrong[0]
            raise ValueError(
                f'labels must lie in [0, num_classes = {num_classes}), got '
                f'{int(self.labels[image][index])} in image {self.image_names[image]}; '
                "set model.num_classes to the data set's number of classes"
            )

    def class_agnostic(self) -> Targets:
        """The same objects, all of class 0, to train two-stage proposals."""
        return replace(self, labels=tuple(torch.zeros_like(labels) for labels in self.labels))

    @cached_property
    def originals(self) -> Tensor:
        """(B, T): the number of the object that each entry is a copy of."""
        device = self.labels[0].device
        numbers = [
            torch.arange(len(labels) // max(times, 1), device=device).repeat(times)
            for labels, times in zip(self.labels, self.copies or (1,) * len(self.labels))
        ]
        return pad_sequence(numbers, batch_first=True)

    def repeat(self, times: int | Sequence[int]) -> Targets:
        """Every image's list of objects, ``times`` times in a row (H-DETR, section 3.2).

        Args:
            times: one number, or one for each image.
        """
        copies = (times,) * len(self.labels) if isinstance(times, int) else tuple(times)
        return replace(
            self,
            labels=tuple(labels.repeat(n) for labels, n in zip(self.labels, copies)),
            boxes=tuple(boxes.repeat(n, 1) for boxes, n in zip(self.boxes, copies)),
            masks=(),
            copies=copies,
            values={
                name: tuple(v.repeat(n, *(1,) * (v.dim() - 1)) for v, n in zip(value, copies))
                for name, value in self.values.items()
            },
        )

    def tile(self, groups: int) -> Targets:
        """Every image ``groups`` times in a row, once for each of its groups of queries."""
        if groups == 1:
            return self
        copies = {
            name: tuple(value for value in getattr(self, name) for _ in range(groups))
            for name in ('labels', 'boxes', 'image_names', 'masks', 'copies')
        }
        values = {
            name: tuple(one for one in value for _ in range(groups))
            for name, value in self.values.items()
        }
        return replace(self, **copies, values=values)


def _canvas(data_samples: SampleList) -> tuple[int, int]:
    stated = data_samples[0].metainfo.get('batch_input_shape')
    if stated is not None:
        height, width = stated
    else:
        height, width = (max(sample.img_shape[i] for sample in data_samples) for i in (0, 1))
    return height, width


def _image_name(metainfo: dict) -> str:
    for key in ('img_path', 'img_id'):
        if metainfo.get(key) is not None:
            return str(metainfo[key])
    return 'without a name'
