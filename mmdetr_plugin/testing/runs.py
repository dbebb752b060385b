"""For commands that train in their own process: a silent console and atomic result files."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from ..checkpoints import written_whole


@contextlib.contextmanager
def quiet(log: TextIO) -> Iterator[None]:
    """While active, output that MMEngine and pycocotools print goes to ``log``."""
    with contextlib.redirect_stdout(log), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def write_json(path: str | Path, content: object) -> None:
    """Write a JSON file atomically; see :func:`mmdetr_plugin.checkpoints.written_whole`."""
    with written_whole(path) as file:
        file.write((json.dumps(content, indent=1) + '\n').encode())
