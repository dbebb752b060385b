"""How wide the maps of a backbone are, by what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def map_channels(backbone: nn.Module) -> list[int] | None:
    """Channels of the maps that ``backbone`` gives, fine to coarse; None where it does not say.

    A backbone says it by ``out_channels``, by timm's ``feature_info``, or, as mmdet's do, by the
    widths of its stages (``num_features`` or ``base_channels``) and ``out_indices``.

    Raises:
        ValueError: ``out_indices`` are not stages in increasing order.
    """
    stated = getattr(backbone, 'out_channels', None)
    if isinstance(stated, (list, tuple)):
        return list(stated)
    info = getattr(backbone, 'feature_info', None)
    if info is not None:
        return list(info.channels())
    indices = getattr(backbone, 'out_indices', None)
    if indices is None:
        return None
    widths = getattr(backbone, 'num_features', None)
    if not isinstance(widths, (list, tuple)):
        widths = _resnet_widths(backbone)
    if widths is None:
        return None
    # mmdet's backbones compare each stage's number with these, and return the maps in its order.
    if not indices or list(indices) != sorted(set(indices) & set(range(len(widths)))):
        raise ValueError(
            f'backbone.out_indices must be numbers of stages, 0 to {len(widths) - 1}, in increasing '
            f'order, got {tuple(indices)}; change them'
        )
    return [widths[i] for i in indices]


def _resnet_widths(backbone: nn.Module) -> list[int] | None:
    """Widths of the stages of mmdet's ResNet and its relatives."""
    base, stages = getattr(backbone, 'base_channels', None), getattr(backbone, 'num_stages', None)
    expansion = getattr(getattr(backbone, 'block', None), 'expansion', None)
    if base is None or stages is None or expansion is None:
        return None
    return [base * 2**i * expansion for i in range(stages)]


def split_channels(neck: Any, channels: list[int] | None) -> tuple[list[int] | None, int]:
    """Channels of the backbone's maps that the neck reads, and how many finer maps it does not.

    Args:
        neck: config of the neck, or a neck; with ``in_channels`` it reads the last maps, as many as
            there are entries, else all maps.
        channels: of the backbone's maps, None = not known.

    Raises:
        ValueError: ``in_channels`` are not those of the last maps.
    """
    stated = neck.get('in_channels') if isinstance(neck, Mapping) else None
    if channels is None or not isinstance(stated, (list, tuple)):
        return channels, 0  # what is no list is refused when the neck is built
    stated = list(stated)
    if channels[-len(stated) :] != stated:
        raise ValueError(
            f"neck.in_channels must be those of the backbone's last maps, {channels}, got {stated}; "
            'leave it out, or choose other maps by backbone.out_indices'
        )
    return stated, len(channels) - len(stated)
