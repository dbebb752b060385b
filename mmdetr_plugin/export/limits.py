"""What cannot be exported, and why."""

from __future__ import annotations

from torch import nn

from ..attention import AdaptiveClusteringAttention
from ..registry import MODELS

NEVER: dict[type[nn.Module], str] = {
    AdaptiveClusteringAttention: 'the picture decides how many clusters there are, so no shape in the '
    'graph could be known; export it with SelfAttention, which has the same parameters',
}
FIXED: dict[str, str] = {
    'mmdet.SwinTransformer': "mmdet's windows are cut with sizes that are numbers",
}
"""By the name of a part: why the graph has one height and width."""


def check_exportable(model: nn.Module, fixed: bool) -> None:
    """Check that the parts of a model can be in a graph.

    Raises:
        ValueError: one cannot, or only where height and width are ``fixed``.
    """
    only_fixed = {MODELS.get(name): why for name, why in FIXED.items()}
    for part in model.modules():
        for kind, why in NEVER.items():
            if isinstance(part, kind):
                raise ValueError(f'{kind.__name__} cannot be exported: {why}')
        for kind, why in only_fixed.items():
            if isinstance(part, kind) and not fixed:
                raise ValueError(
                    f'a model with {kind.__name__} can be exported for one size alone: {why}; give it '
                    'with --fixed HEIGHT WIDTH'
                )
