"""What goes into an exported graph, and how a picture is brought to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from ..structures import Size

STRIDE = 32
"""Heights and widths are multiples of it, where they are not fixed: then all maps of a backbone fit
together, whatever the size."""


@dataclass(frozen=True)
class Interface:
    """The inputs of a graph.

    ``images`` (B, 3, H, W) are of type uint8, in RGB order. ``sizes`` (B, 2), int64, are heights and
    widths of the pictures, which stand in the upper left corner of ``images``.

    Attributes:
        scale: (width, height) that the test pipeline resizes to.
        keep_ratio: whether pictures are resized to fit within the scale; then they differ in shape, and
            ``sizes`` is an input. Otherwise they fill ``images``, and there is no such input.
        divisor: of heights and widths.
        fixed: (height, width) of ``images``; None = any multiples of the divisor.
        classes: names in the order of the labels.
    """

    scale: tuple[int, int]
    keep_ratio: bool
    divisor: int
    fixed: Size | None
    classes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the inputs, in their order."""
        return ('images', 'sizes') if self.keep_ratio else ('images',)

    def metadata(self) -> dict[str, str]:
        """What a program needs to know that has the graph alone, as JSON texts."""
        values: dict[str, Any] = {
            'classes': self.classes,
            'scale': self.scale,
            'keep_ratio': self.keep_ratio,
            'divisor': self.divisor,
            'fixed': self.fixed,
        }
        return {name: json.dumps(value) for name, value in values.items()}


def interface_of(
    cfg: Config, divisor: int, classes: tuple[str, ...], fixed: Size | None = None
) -> Interface:
    """The interface of a config's model.

    Args:
        divisor: of the model's own padding.
        fixed: (height, width), see :class:`Interface`.

    Raises:
        ValueError: the test pipeline does not resize in one way, or the fixed size does not fit.
    """
    steps = [s for s in get_test_pipeline_cfg(cfg) if str(s['type']).endswith('Resize')]
    scale = steps[0].get('scale') if len(steps) == 1 else None
    if scale is None or isinstance(scale, int):
        raise ValueError(
            'the test pipeline must have one step Resize with a scale (width, height), got '
            f'{[dict(s) for s in steps]}; change the config'
        )
    keep_ratio = bool(steps[0].get('keep_ratio', False))
    if fixed is None:
        divisor = divisor if divisor > 1 else STRIDE
    if fixed is not None and (min(fixed) < 1 or any(side % divisor for side in fixed)):
        raise ValueError(
            f'--fixed must be a height and a width that are multiples of {divisor}, got '
            f'{fixed[0]} {fixed[1]}; take {" ".join(str(_up(side, divisor)) for side in fixed)}'
        )
    return Interface((int(scale[0]), int(scale[1])), keep_ratio, divisor, fixed, classes)


def _up(side: int, divisor: int) -> int:
    return max(divisor, -(-side // divisor) * divisor)
