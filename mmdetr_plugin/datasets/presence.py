"""Whether the files that a config's data sets name are there, told before training starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config

COCO = 'get train2017, val2017 and annotations from https://cocodataset.org'
DIGITS = 'make them: python tools/make_digits.py'


def check_presence(cfg: Config, splits: tuple[str, ...]) -> None:
    """Look for the annotation file of every data set of ``splits`` (``train``, ``val``, ``test``).

    Raises:
        FileNotFoundError: one is missing; the message says where it was looked for, how to get it
            and how to name another place.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for key, dataset in _datasets(loader, f'{split}_dataloader'):
            root, file = dataset.get('data_root') or '', dataset.get('ann_file')
            if not file or '://' in f'{root}{file}':
                continue
            path = Path(root, file)
            if not path.is_file():
                source = DIGITS if 'digits' in str(path) else COCO
                raise FileNotFoundError(
                    f'the annotations of {key} must be at {path.absolute()}, but there is no such '
                    f'file; {source} into {root or "the folder that it names"}, or name another '
                    f'folder: --cfg-options {key}.data_root=FOLDER/'
                )


def _datasets(node: object, key: str) -> Iterator[tuple[str, Mapping]]:
    """Every dictionary with an annotation file below ``node``, and where it stands."""
    if isinstance(node, Mapping):
        if 'ann_file' in node:
            yield key, node
        for name, child in node.items():
            yield from _datasets(child, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for i, child in enumerate(node):
            yield from _datasets(child, f'{key}.{i}')
