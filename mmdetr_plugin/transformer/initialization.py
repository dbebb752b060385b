"""Initial weights of encoders and decoders."""

from __future__ import annotations

from torch import nn


def init_transformer_(module: nn.Module) -> None:
    """Xavier for every matrix (DETR, appendix A.4), then the ``init_weights_`` of the parts."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for child in module.modules():
        initialise = getattr(child, 'init_weights_', None)
        if callable(initialise):
            initialise()
