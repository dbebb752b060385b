"""Images read with an error that names the file."""

from __future__ import annotations

import cv2
from mmcv.transforms import LoadImageFromFile

from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's `LoadImageFromFile`, for training: an empty file's name is in no error of OpenCV's.

    Raises:
        ValueError: the file is not there or no image; the message says how to find all such files.
    """

    def transform(self, results: dict) -> dict | None:
        try:
            return super().transform(results)
        except (OSError, AssertionError, cv2.error) as error:
            raise ValueError(
                f'{results["img_path"]} must be an image, got {type(error).__name__}: '
                f'{str(error).strip()}; put it there again, or leave it out of the annotations; '
                'tools/check_dataset.py CONFIG lists all images that cannot be read'
            ) from error
