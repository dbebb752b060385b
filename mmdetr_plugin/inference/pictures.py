"""Pictures as a model is given them: arrays, PIL images, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from mmcv.transforms import Compose, LoadAnnotations, LoadImageFromFile
from PIL import Image

from ..datasets.image_loading import checked_step, from_pillow
from ..datasets.panoptic_loading import LoadPanopticSegments
from ..registry import TRANSFORMS

ImageLike: TypeAlias = str | Path | np.ndarray | Image.Image

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


@dataclass(frozen=True)
class Picture:
    """An opened image.

    Attributes:
        pixels: (H, W, 3) in BGR order, uint8, or float32 in 0..255 of a file with 16 bits.
        path: of the file, if it was one.
    """

    pixels: np.ndarray
    path: str | None = None

    def rgb(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        return np.ascontiguousarray(self.pixels[..., ::-1]).clip(0, 255).astype(np.uint8)


def split_pipeline(steps: Sequence[Mapping]) -> tuple[Callable[[dict], dict], Compose]:
    """The step of a test pipeline that loads a file, and the others, without those for annotations.

    Raises:
        ValueError: the first step does not load an image.
    """
    classes = [TRANSFORMS.get(step['type']) for step in steps]
    if not classes or not issubclass(classes[0], LoadImageFromFile):
        raise ValueError(
            'the test pipeline of the config must begin with LoadImageFromFile, got '
            f'{[step["type"] for step in steps][:1]}; move it to the front'
        )
    loader = TRANSFORMS.build(checked_step(steps[0]))
    unused = (LoadAnnotations, LoadPanopticSegments)
    others = [
        TRANSFORMS.build(step)
        for step, cls in zip(steps[1:], classes[1:])
        if not issubclass(cls, unused)
    ]
    return loader, Compose(others)


def open_picture(image: ImageLike | Picture, loader: Callable[[dict], Any]) -> Picture:
    """Open what a user gives as an image.

    Args:
        image: path or address of a file; (H, W, 3) uint8 in RGB order; or a PIL image of 8
            bits, turned as its EXIF data say.
        loader: reads a file, see :func:`split_pipeline`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: it is none of these.
        ValueError: the file is no image, or the array has another shape or type.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, (str, Path)):
        return _open_file(str(image), loader)
    if isinstance(image, Image.Image):
        return Picture(from_pillow(image))
    if not isinstance(image, np.ndarray):
        raise TypeError(
            'an image must be a path, an array (H, W, 3) in RGB order or a PIL image, got '
            f'{type(image).__name__}; a tensor (3, H, W) becomes an array by '
            'x.permute(1, 2, 0).numpy()'
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            'an image must be an array of shape (H, W, 3) and type uint8, in RGB order, got '
            f'{image.shape} and {image.dtype}; convert it first'
        )
    return Picture(np.ascontiguousarray(image[..., ::-1]))


def _open_file(path: str, loader: Callable[[dict], Any]) -> Picture:
    if '://' not in path and not Path(path).is_file():
        what = 'a folder' if Path(path).is_dir() else 'no such file'
        raise FileNotFoundError(f'an image must be a file, got {path} ({what}); check the path')
    try:
        pixels = loader({'img_path': path})['img']
    except (OSError, ValueError, TypeError) as error:
        cause = str(error.__cause__ or error).strip()
        raise ValueError(
            f'{path} must be an image that OpenCV reads (JPEG, PNG, BMP, WebP, TIFF), got '
            f'{cause.splitlines()[0] if cause else type(error).__name__}; replace the file'
        ) from error
    return Picture(pixels, path)


def pipeline_inputs(picture: Picture) -> dict[str, Any]:
    """What the steps after loading read."""
    shape = picture.pixels.shape[:2]
    return {
        'img': picture.pixels,
        'img_path': picture.path,
        'img_id': 0,
        'img_shape': shape,
        'ori_shape': shape,
    }
