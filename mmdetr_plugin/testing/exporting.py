"""Models with random weights for the benchmarks of exported files."""

from __future__ import annotations

import torch
from mmengine.config import Config

from ..detector import DETR
from ..engine.project import config_path
from ..export.interface import Interface, interface_of
from ..registry import MODELS
from ..structures import Size
from .inputs import configure_, tested_size
from .peers import gain_of, randomise_
from .shrinking import TINY, shrink

RANKED = ('content.weight', 'shift.weight')
"""Tables of two-stage queries with a row for each rank among the selected tokens."""


def detector(
    name: str, small: bool = False, fixed: Size | None = None, seed: int = 0
) -> tuple[DETR, Interface, Size]:
    """The model of a config with random weights, the interface of its graph, and the (height, width)
    of a picture of 3 : 4 as the config tests it, rounded up to what the graph takes.

    Tokens with nearly equal scores swap ranks by rounding. So that this changes nothing, all ranks have
    the same content; a few seeds remain with which such tokens are at the limit of the selection.
    """
    torch.manual_seed(0)
    cfg = Config.fromfile(config_path(name))
    cfg.model.backbone.init_cfg = None
    if small:
        cfg.model = shrink(cfg.model, TINY)
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        # First weights give nearly equal scores.
        randomise_(configure_(model), seed, gain_of(name))
        for key, table in model.queries.named_parameters():
            if key.endswith(RANKED):
                table.copy_(table[:1].expand_as(table))
    classes = tuple(f'class {i}' for i in range(model.num_classes))
    interface = interface_of(cfg, model.data_preprocessor.pad_size_divisor, classes, fixed)
    step = interface.divisor
    height, width = (-(-side // step) * step for side in tested_size(cfg))
    return model, interface, fixed or (height, width)
