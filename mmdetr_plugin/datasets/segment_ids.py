"""The PNGs of COCO's panoptic format: a segment's id is R + 256 G + 65536 B, and 0 means void."""

from __future__ import annotations

import mmcv
import numpy as np
from mmengine.fileio import get


def read_segment_ids(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Read segment ids (H, W) int64 from a PNG."""
    rgb = mmcv.imfrombytes(get(path, backend_args), flag='color', channel_order='rgb')
    return rgb.astype(np.int64) @ np.array((1, 256, 65536))


def segment_colours(ids: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, the RGB of segment ids (H, W)."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
