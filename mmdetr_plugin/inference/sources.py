"""What a user names on the command line: an image, a folder, a video, or a list of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import mmcv
import numpy as np

from .pictures import SUFFIXES

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv')
LIST_SUFFIX = '.txt'


@dataclass(frozen=True)
class Files:
    """Image files, and the folder that their names in the output are relative to."""

    paths: tuple[Path, ...]
    root: Path

    def names(self) -> dict[str, str]:
        """The name of each path in the output."""
        return {str(path): path.relative_to(self.root).as_posix() for path in self.paths}


def find_files(source: Path, out: Path) -> Files:
    """The images that ``source`` names.

    Args:
        source: an image; a folder, which is searched with its subfolders; or a text file with a path
            in each line, absolute or relative to the list.
        out: folder of the results; what it holds is not searched.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: there is no image in it.
    """
    if source.is_dir():
        every = sorted(path for path in source.rglob('*') if path.suffix.lower() in SUFFIXES)
        paths = [path for path in every if not path.resolve().is_relative_to(out.resolve())]
        if not paths:
            raise ValueError(
                f'the folder must hold images ({", ".join(SUFFIXES)}), got none in {source}; '
                'name another folder, or a list of files (.txt)'
            )
        return Files(tuple(paths), source)
    if not source.is_file():
        raise FileNotFoundError(
            f'the input must be an image, a folder, a video or a list (.txt), got {source}, which does '
            'not exist; check the path'
        )
    if source.suffix.lower() != LIST_SUFFIX:
        return Files((source,), source.parent)
    lines = source.read_text(encoding='utf-8').splitlines()
    paths = [(source.parent / line.strip()).resolve() for line in lines if line.strip()]
    if not paths:
        raise ValueError(f'the list must name an image in each line, got none in {source}')
    paths = list(dict.fromkeys(paths))
    return Files(tuple(paths), Path(os.path.commonpath([path.parent for path in paths])))


class Video(Sequence[np.ndarray]):
    """The frames of a video, (H, W, 3) uint8 in RGB order.

    Args:
        path: of the file.

    Raises:
        ValueError: it is no video that OpenCV reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = mmcv.VideoReader(str(path), cache_capacity=1)
        if not self.reader.opened or self.reader.frame_cnt < 1:
            raise ValueError(
                f'{path} must be a video that OpenCV reads, got one without frames; convert it to MP4'
            )

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.reader.fps or 25.0

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.reader.resolution

    def __len__(self) -> int:
        """As the file states; it may hold fewer."""
        return self.reader.frame_cnt

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return self.reader[index][..., ::-1]

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.reader:
            if frame is None:
                return
            yield frame[..., ::-1]
