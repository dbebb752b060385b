"""Checks, before training starts, that the annotation files named in a config exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from mmengine.config import Config

COCO = 'get train2017, val2017 and annotations from https://cocodataset.org'
DIGITS = 'make them: python tools/make_digits.py'
OWN = 'put them there (docs/finetune.md shows the folders)'


def check_presence(cfg: Config, splits: tuple[str, ...]) -> None:
    """Look for the annotation file of every data set of ``splits`` (``train``, ``val``, ``test``).

    Raises:
        FileNotFoundError: a file is missing; the message says where it should be, how to get it and
            how to name another folder.
    """
    for split in splits:
        for key, dataset in annotated_datasets(cfg, split):
            own = not leaves_folder(dataset)
            root = (dataset if own else cfg).get('data_root') or ''
            file = dataset.get('ann_file')
            if not file or '://' in f'{root}{file}':
                continue
            path = Path(root, file)
            if not path.is_file():
                advice = OWN
                if 'digits' in str(path):
                    advice = DIGITS
                elif own and '2017' in file:
                    advice = f'{COCO} into {root or "the folder that it names"}'
                raise FileNotFoundError(
                    f'the annotations of {key} must be at {path.absolute()}, but there is no such '
                    f'file; {advice}, or name another folder: --cfg-options '
                    f'{f"{key}." if own else ""}data_root=FOLDER/'
                )


def leaves_folder(dataset: Mapping) -> bool:
    """Whether a data set has ``data_root=None``: the config's own ``data_root`` then applies."""
    return 'data_root' in dataset and dataset['data_root'] is None


def annotated_datasets(cfg: Config, split: str) -> Iterator[tuple[str, MutableMapping]]:
    """Yield (key in the config, config) of the data sets of a split that have an annotation file."""
    return _datasets(cfg.get(f'{split}_dataloader'), f'{split}_dataloader')


def _datasets(node: object, key: str) -> Iterator[tuple[str, MutableMapping]]:
    """Yield every dictionary below ``node`` that has an annotation file, with its key."""
    if isinstance(node, MutableMapping):
        if 'ann_file' in node:
            yield key, node
        for name, child in node.items():
            yield from _datasets(child, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for i, child in enumerate(node):
            yield from _datasets(child, f'{key}.{i}')
