"""ImageNet weights of the backbone."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any
from urllib.error import URLError

from torch import nn


@contextmanager
def missing_weights_explained(backbone: nn.Module) -> Iterator[None]:
    """While active, weights that cannot be read raise a RuntimeError with the remedy."""
    try:
        yield
    except (URLError, OSError) as error:
        source = (getattr(backbone, 'init_cfg', None) or {}).get('checkpoint')
        raise RuntimeError(
            f'the backbone needs its ImageNet weights, but {source} could not be read ({error}); '
            'if this machine is offline, copy the file here and set '
            'model.backbone.init_cfg.checkpoint=FILE, or model.backbone.init_cfg=None to start '
            'from random weights'
        ) from error


def fetch_nothing_(backbone: MutableMapping[str, Any]) -> None:
    """Let no part of the config of a backbone read weights when it is initialised."""
    backbone['init_cfg'] = None
    for part in backbone.values():
        if isinstance(part, MutableMapping) and part.get('init_cfg'):
            fetch_nothing_(part)
