"""A trained model whose outputs are further targets of another one (ACT's knowledge distillation)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from mmdet.structures import SampleList
from mmengine.config import Config
from torch import Tensor

from .arguments import SlotError, checked
from .checkpoints.files import read_checkpoint
from .checkpoints.pretrained import fetch_nothing_
from .registry import MODELS
from .structures import Outputs

OF_TEACHER = 'teacher_'
"""What the names of the teacher's tensors in ``Prediction.extra`` begin with."""


class Teacher:
    """Holds the trained model, which is no part of the other one: it is not in its checkpoints.

    Args:
        config: file of its config.
        checkpoint: file of its weights, in any layout that can be read; None = random ones.
        num_classes: of the model that is taught.

    Raises:
        SlotError: there is no config in the file, or it cannot be built.
    """

    @checked('model.teacher')
    def __init__(self, config: str, checkpoint: str | None, num_classes: int) -> None:
        try:
            cfg = Config.fromfile(config).model
        except (OSError, SyntaxError, AttributeError) as error:
            raise SlotError(
                f'model.teacher.config must be a file with the config of a model, got {config!r} '
                f'({error}); change it'
            ) from error
        cfg.num_classes = num_classes
        fetch_nothing_(cfg.backbone)
        self.model: Any = MODELS.build(cfg).requires_grad_(False).eval()
        if checkpoint is not None:
            self.model.load_state_dict(read_checkpoint(checkpoint))

    @torch.no_grad()
    def teach(self, outputs: Outputs, images: Tensor, samples: SampleList) -> Outputs:
        """The outputs with ``teacher_logits``, ``teacher_boxes`` and ``teacher_hidden`` in every layer.

        Args:
            images: (B, 3, H, W).
            samples: of the images.

        Raises:
            ValueError: the teacher has other layers, queries or columns.
        """
        theirs = self.model.to(images.device).run(images, samples).layers
        shapes = [[tuple(p.logits.shape) for p in layers] for layers in (outputs.layers, theirs)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                'a teacher must have the layers, queries and classes of the model, got '
                f'{shapes[1][-1]} in {len(theirs)} layers for {shapes[0][-1]} in '
                f'{len(outputs.layers)}; choose another model.teacher, or remove model.branches'
            )
        names = ('logits', 'boxes', 'hidden')
        layers = tuple(
            replace(own, extra={**own.extra, **{OF_TEACHER + n: getattr(other, n) for n in names}})
            for own, other in zip(outputs.layers, theirs, strict=True)
        )
        return replace(outputs, layers=layers)
