"""Given feature maps instead of those that backbone and neck compute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

from torch import Tensor

from ..detector import DETR


@contextmanager
def given_features(
    model: DETR, maps: Sequence[Tensor], unread: Sequence[Tensor] = ()
) -> Iterator[None]:
    """While active, ``model`` runs neither backbone nor neck; only the size of the images matters.

    Args:
        maps: (B, C, h, w) per level, as the neck gives them.
        unread: maps of the backbone for a mask head, fine to coarse.
    """
    levels = (*unread, *maps)  # the neck reads those that follow the unread ones
    with (
        mock.patch.object(model.backbone, 'forward', lambda *_: levels),
        mock.patch.object(model.neck, 'forward', lambda *_: tuple(maps)),
    ):
        yield
