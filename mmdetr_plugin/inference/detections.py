"""What a model finds in one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.evaluation import INSTANCE_OFFSET
from mmdet.structures import DetDataSample

from ..checkpoints import written_whole
from ..visualization import PanopticVisualizer
from .coco import box_entries

SHOWN = 10


@dataclass(frozen=True, repr=False)
class ImageDetections:
    """The M detections of one image, by falling score where the model sorts them.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        sample: mmdet's sample with ``pred_instances``, on the CPU.
        classes: names of all classes, in the order of the labels.
        path: of the image, if it was read from a file.
    """

    image: np.ndarray
    sample: DetDataSample
    classes: tuple[str, ...]
    path: str | None = None

    def __len__(self) -> int:
        return len(self.sample.pred_instances)

    def __repr__(self) -> str:
        found = [f'{name} {score:.2f}' for name, score in zip(self.names, self.scores)]
        more = [f'{len(found) - SHOWN} more'] * (len(found) > SHOWN)
        where = '' if self.path is None else f' in {self.path}'
        return f'<{len(found)} detections{where}: {", ".join(found[:SHOWN] + more)}>'

    @property
    def boxes(self) -> np.ndarray:
        """(M, 4) float32, left, top, right, bottom in pixels of the image."""
        return self.sample.pred_instances.bboxes.float().numpy()

    @property
    def scores(self) -> np.ndarray:
        """(M,) float32, 0..1."""
        return self.sample.pred_instances.scores.float().numpy()

    @property
    def labels(self) -> np.ndarray:
        """(M,) int64, 0..K-1."""
        return self.sample.pred_instances.labels.numpy()

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.classes[label] for label in self.labels]

    @property
    def masks(self) -> np.ndarray | None:
        """(M, H, W) bool; None if the model makes no masks."""
        instances = self.sample.pred_instances
        return np.asarray(instances.masks, dtype=bool) if 'masks' in instances else None

    @property
    def panoptic_codes(self) -> np.ndarray | None:
        """(H, W) int64, the segment of every pixel as mmdet codes it, label + 1000 x instance; pixels
        without a segment have the number of classes. None if the model makes no segments."""
        if 'pred_panoptic_seg' not in self.sample:
            return None
        return np.asarray(self.sample.pred_panoptic_seg.sem_seg)[0].astype(np.int64)

    def panoptic_labels(self) -> dict[int, int]:
        """The label of each code in :attr:`panoptic_codes`."""
        codes = [] if self.panoptic_codes is None else np.unique(self.panoptic_codes).tolist()
        return {code: code % INSTANCE_OFFSET for code in codes if code != len(self.classes)}

    def json(self) -> list[dict[str, Any]]:
        """A dictionary for each detection, ready for ``json.dumps``: see :func:`.coco.box_entries`."""
        return box_entries(self)

    def plot(self, file: str | Path | None = None) -> np.ndarray:
        """The image with boxes, names and scores (in percent), and masks; panoptic segments, where
        there are any, take their place.

        Args:
            file: also write the picture there (``.jpg`` or ``.png``), whole or not at all.

        Returns:
            (H, W, 3) uint8, RGB.
        """
        drawn = self.sample.clone()
        picture = self.image.copy()
        if 'pred_panoptic_seg' in drawn:  # its names would cover those of the boxes
            del drawn.pred_instances
        if 'pred_panoptic_seg' in drawn or len(self):
            visualizer = PanopticVisualizer(name='predictions')
            visualizer.dataset_meta = {'classes': self.classes, 'palette': 'random'}
            visualizer.add_datasample('', picture, drawn, draw_gt=False, pred_score_thr=-1.0)
            picture = visualizer.get_image()
            visualizer.close()
        if file is not None:
            write_picture(picture, Path(file))
        return picture


def write_picture(picture: np.ndarray, file: Path) -> None:
    """Write (H, W, 3) uint8, RGB, to a file that appears once it is complete.

    Raises:
        ValueError: OpenCV has no encoder for the suffix.
    """
    try:
        data = cv2.imencode(file.suffix, picture[..., ::-1])[1]
    except cv2.error as error:
        raise ValueError(f'a picture must be written as .jpg or .png, got {file}') from error
    with written_whole(file) as stream:
        stream.write(data.tobytes())
