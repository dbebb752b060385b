"""Files of predictions: pictures, video, COCO's JSON; each appears once it is complete."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from ..checkpoints import written_whole
from ..checkpoints.files import ASIDE
from ..datasets.segment_ids import segment_colours
from .coco import CocoFile, segment_entries
from .detections import ImageDetections, write_picture

DRAWN = ('.jpg', '.jpeg', '.png')


def check_writable(folder: Path) -> None:
    """Make the folder and write to it, before a model computes for hours.

    Raises:
        PermissionError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(
            f'results must be written to {folder}, but that is not possible ({error.strerror}); name '
            'a folder in which you may write'
        ) from error


class Results:
    """Writes what is found in images.

    Args:
        folder: gets the pictures by their names, and with :meth:`finish` the file ``predictions.json``;
            of panoptic models also ``panoptic.json`` and PNGs in ``panoptic/``.
        classes: names of the classes.
        pictures: whether to draw pictures.
    """

    def __init__(self, folder: Path, classes: Sequence[str], pictures: bool = True) -> None:
        self.folder, self.pictures = folder, pictures
        self.boxes, self.segments = CocoFile(classes), CocoFile(classes)

    def add(self, found: ImageDetections, name: str, **more: Any) -> None:
        """Add an image.

        Args:
            name: of the picture, relative to the folder; entries of the JSON have it too.
            more: further entries of the image in the JSON.
        """
        number = self.boxes.add_image(found, name, **more)
        for entry in found.json():
            self.boxes.add_annotation(number, entry)
        if self.pictures and not more:
            path = self.folder / name
            drawn = path if path.suffix.lower() in DRAWN else path.with_name(f'{path.name}.jpg')
            found.plot(drawn)
        made = segment_entries(found)
        if made is not None:
            ids, entries = made
            frame = ''.join(f'.{value}' for value in more.values())
            file = f'{name}{frame}.png'
            write_picture(segment_colours(ids), self.folder / 'panoptic' / file)
            number = self.segments.add_image(found, name, **more)
            self.segments.add_annotation(number, {'file_name': file, 'segments_info': entries})

    def finish(self) -> list[Path]:
        """Write the JSON; returns the files."""
        files = {'predictions.json': self.boxes}
        if self.segments.images:
            files['panoptic.json'] = self.segments
        for name, content in files.items():
            with written_whole(self.folder / name) as file:
                file.write(json.dumps(content.document()).encode())
        return [self.folder / name for name in files]


@contextmanager
def video_writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[cv2.VideoWriter]:
    """A writer of an MP4 video, which gets the name ``path`` once it is complete.

    Args:
        rate: frames a second.
        size: (width, height) in pixels.

    Raises:
        OSError: OpenCV cannot write videos here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f'.{path.stem}.{os.getpid()}{ASIDE}.mp4')
    writer = cv2.VideoWriter(str(aside), cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
    try:
        if not writer.isOpened():
            raise OSError(f'a video must be written to {path}, but OpenCV cannot encode MP4 here')
        yield writer
        writer.release()
        aside.replace(path)
    finally:
        writer.release()
        aside.unlink(missing_ok=True)
