"""The module that is exported: from pixels to detections."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import Tensor, nn

from ..compilation import Compiled
from ..deployment import fold_for_deployment_
from ..detector import DETR
from ..heads.postprocess import detected_corners
from ..structures import map_size
from .windows import open_windows_

OUTPUTS = ('boxes', 'scores', 'labels', 'masks')
NOTHING = -1
"""The label of a row that holds no detection."""


class Found(NamedTuple):
    """The outputs of a graph, M rows for each of B images.

    A row that holds no detection has score 0 and the label -1.
    """

    boxes: Tensor
    """(B, M, 4), left, top, right, bottom in pixels of the input."""
    scores: Tensor
    """(B, M)."""
    labels: Tensor
    """(B, M), int64."""
    masks: Tensor | None = None
    """(B, M, h, w), probabilities over the padded input, of models with a mask head."""

    def named(self) -> dict[str, Tensor]:
        return {name: value for name, value in zip(OUTPUTS, self) if value is not None}


class DetectionGraph(nn.Module):
    """A detector with its normalisation before it and its post-processing after it.

    It has a copy of the model whose norms are merged into the convolutions.

    Raises:
        ValueError: the data preprocessor is not mmdet's ``DetDataPreprocessor``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: DETR) -> None:
        super().__init__()
        given = model.data_preprocessor
        if not isinstance(given, DetDataPreprocessor):
            raise ValueError(
                'model.data_preprocessor must be a DetDataPreprocessor to be exported, got '
                f'{type(given).__name__}; change the config'
            )
        self.model = copy.deepcopy(model)
        open_windows_(self.model)
        fold_for_deployment_(self.model)
        self.model.compiled = Compiled()
        self.reads_rgb = bool(given._channel_conversion)
        self.pad_value = float(given.pad_value)
        normalised = given._enable_normalize
        self.register_buffer('mean', given.mean.clone() if normalised else torch.zeros(3, 1, 1))
        self.register_buffer('std', given.std.clone() if normalised else torch.ones(3, 1, 1))

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """The outputs that there are, in the order of :data:`OUTPUTS`; a tuple, which files of
        ``torch.export`` can hold. See :class:`~.interface.Interface` for the inputs."""
        return tuple(self.find(images, sizes).named().values())

    def find(self, images: Tensor, sizes: Tensor | None = None) -> Found:
        """As :meth:`forward`, by name."""
        x = self._normalised(images, sizes)
        outputs = self.model.run(x, aux=False, sizes=sizes)
        prediction = outputs.layers[-1]
        post, boxes = self.model.postprocess, prediction.detected_boxes
        found = post(prediction.ranked(), boxes)
        corners = detected_corners(boxes, found) * self._extents(images, sizes)
        scores, labels = found.scores.float(), found.labels
        # Columns beyond the classes (SMCA) are none.
        kept = post.kept(scores, labels, corners) & (labels < self.model.num_classes) & (scores > 0)
        scores, labels = scores.masked_fill(~kept, 0.0), labels.masked_fill(~kept, NOTHING)
        masks = None
        if outputs.masks is not None:
            logits = outputs.masks.dense().float()
            index = found.queries[..., None, None].expand(-1, -1, *logits.shape[-2:])
            masks = logits.gather(1, index).sigmoid()
        return Found(corners, scores, labels, masks)

    def _normalised(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """What the backbone reads: (B, 3, H, W), in its order of colours."""
        x = images.float()
        x = ((x if self.reads_rgb else x.flip(1)) - self.mean) / self.std
        if sizes is not None:
            height, width = map_size(images)
            rows = torch.arange(height, device=x.device) < sizes[:, :1]
            columns = torch.arange(width, device=x.device) < sizes[:, 1:]
            inside = rows[:, None, :, None] & columns[:, None, None, :]
            x = x.masked_fill(~inside, self.pad_value)
        return x

    @staticmethod
    def _extents(images: Tensor, sizes: Tensor | None) -> Tensor:
        """(B | 1, 1, 4): width, height, width, height of the pictures."""
        if sizes is not None:
            return sizes.flip(-1).repeat(1, 2)[:, None].float()
        height, width = map_size(images)
        sides = [torch.full((1, 1, 1), side, device=images.device) for side in (width, height)]
        return torch.cat(sides * 2, -1).float()
