"""Reads images; the error for a bad image names its file."""

from __future__ import annotations

import os
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.fileio import get
from PIL import Image, ImageOps

from ..registry import TRANSFORMS

ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is turned."""

PNG = b'\x89PNG\r\n\x1a\n'
TIFF = (b'II*\x00', b'MM\x00*')
DEEP_MODES = ('I', 'F')
WHITE = 65535 / 255


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's `LoadImageFromFile`, which also checks what it loads.

    A picture of Pillow may stand for the path, and an array be there instead of it. Images of 16
    bits, of which OpenCV keeps the upper 8, are loaded as float32 with 65535 as 255. An error names
    the file, which OpenCV's errors do not. The size must be the stated one.

    Args:
        check_size: whether the size must be ``width`` and ``height`` of the annotations, if stated.
        kwargs: of `LoadImageFromFile`.

    Raises:
        ValueError: the file is missing, is not an image, or has another size than the annotations
            say; the message says how to list all such files.
    """

    def __init__(self, check_size: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.check_size = check_size

    def transform(self, results: dict) -> dict | None:
        if not isinstance(results.get('img_path'), (str, os.PathLike)):
            pixels = results['img'] if 'img' in results else from_pillow(results.get('img_path'))
            shape = pixels.shape[:2]
            return {
                **results,
                'img_path': None,
                'img': pixels,
                'img_shape': shape,
                'ori_shape': shape,
            }
        try:
            loaded = self._load_deep(results) or super().transform(results)
        except (OSError, AssertionError, cv2.error) as error:
            raise ValueError(
                f'{results["img_path"]} must be an image, got {type(error).__name__}: '
                f'{str(error).strip()}; replace the file, or remove it from the annotations; '
                'tools/check_dataset.py CONFIG lists all images that cannot be read'
            ) from error
        if loaded is not None and self.check_size:
            _check_size(loaded)
        return loaded

    def _load_deep(self, results: dict) -> dict | None:
        """An image of 16 bits; None for others."""
        path = str(results['img_path'])
        if self.color_type != 'color' or not path.lower().endswith(('.png', '.tif', '.tiff')):
            return None
        pixels = load_deep(get(path, self.backend_args))
        if pixels is None:
            return None
        shape = pixels.shape[:2]
        return {**results, 'img': pixels, 'img_shape': shape, 'ori_shape': shape}


def load_deep(data: bytes) -> np.ndarray | None:
    """(H, W, 3) float32 in 0..255, BGR, of a PNG or TIFF of 16 bits; None for other files."""
    png = data.startswith(PNG) and data[24:25] == b'\x10'  # the bit depth
    if not (png or data.startswith(TIFF)):
        return None
    pixels = mmcv.imfrombytes(data, flag='unchanged')
    if pixels is None or pixels.dtype != np.uint16:
        return None
    if pixels.ndim == 2 or pixels.shape[-1] == 1:
        pixels = np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return pixels[..., :3].astype(np.float32) / np.float32(WHITE)


def checked_step(step: Any) -> Any:
    """``step`` of a pipeline; mmcv's loading of images is replaced by the checked one."""
    if isinstance(step, dict) and 'type' in step:
        kind = step['type']
        cls = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
        if cls is LoadImageFromFile:
            return {**step, 'type': 'mmdetr_plugin.LoadImage'}
    return step


def stated_step(step: Any) -> Any:
    """``step`` of a pipeline; the checked loading without options of its own is stated as mmcv's.

    mmdet's analysis tools look for that class. The data set makes it a :func:`checked_step` again.
    """
    if isinstance(step, dict) and 'type' in step and 'check_size' not in step:
        kind = step['type']
        if (TRANSFORMS.get(kind) if isinstance(kind, str) else kind) is LoadImage:
            return {**step, 'type': LoadImageFromFile.__name__}
    return step


def from_pillow(picture: Any) -> np.ndarray:
    """(H, W, 3) uint8, BGR, of a picture of Pillow in any mode of 8 bits, turned as its EXIF says.

    Raises:
        ValueError: it is none, or has more than 8 bits.
    """
    if not isinstance(picture, Image.Image):
        raise ValueError(
            f'an image must be a path, an array or a picture of Pillow, got {type(picture).__name__}'
        )
    if picture.mode in DEEP_MODES or picture.mode.startswith('I;'):
        raise ValueError(
            f'a picture of Pillow must have 8 bits a channel, got mode {picture.mode!r}; give the path '
            'of the file, or an array of uint16'
        )
    return np.asarray(ImageOps.exif_transpose(picture).convert('RGB'))[..., ::-1].copy()


def _check_size(results: dict) -> None:
    stated: tuple[Any, Any] = results.get('width'), results.get('height')
    height, width = results['img_shape'][:2]
    if None in stated or stated == (width, height) or any(side < 1 for side in stated):
        return
    advice = 'correct the annotations'
    if stated == (height, width):
        advice = (
            'if EXIF turns the picture and the boxes belong to the pixels as stored, load it with '
            "color_type='color_ignore_orientation'; if not, exchange the two numbers"
        )
    raise ValueError(
        f'{results["img_path"]} must have the size that the annotations state, {stated[0]} x '
        f'{stated[1]}, got {width} x {height}: its boxes would be wrong; {advice}; '
        'tools/check_dataset.py CONFIG lists all such images'
    )
