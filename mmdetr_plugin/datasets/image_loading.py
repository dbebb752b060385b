"""Reads images; the error for a bad image names its file."""

from __future__ import annotations

import cv2
from mmcv.transforms import LoadImageFromFile

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's `LoadImageFromFile` with an error that names the file, which OpenCV's errors do not.

    Raises:
        ValueError: the file is missing or is not an image; the message says how to list all such
            files.
    """

    def transform(self, results: dict) -> dict | None:
        try:
            return super().transform(results)
        except (OSError, AssertionError, cv2.error) as error:
            raise ValueError(
                f'{results["img_path"]} must be an image, got {type(error).__name__}: '
                f'{str(error).strip()}; replace the file, or remove it from the annotations; '
                'tools/check_dataset.py CONFIG lists all images that cannot be read'
            ) from error
