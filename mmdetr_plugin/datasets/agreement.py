"""Whether a config's classes are those of its annotation files, told before anything is built.

mmdet's `CocoDataset` looks classes up by name and silently leaves out what it does not find; labels
follow the order of the file, so that a list in another order gives every class a wrong name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config

from ..registry import DATASETS
from .annotations import read_category_names
from .presence import annotated_datasets


def check_agreement(cfg: Config, splits: tuple[str, ...]) -> None:
    """Compare the COCO data sets of ``splits`` with their files, and with ``model.num_classes``.

    A class list may leave out categories of the file. Data sets that are not read as mmdet's
    `CocoDataset` does it (VOC, LVIS, Objects365, ...) and remote files are not looked at.

    Raises:
        ValueError: they disagree, or a file is not COCO; see :func:`.annotations.read_coco`.
    """
    for split in splits:
        for key, dataset in annotated_datasets(cfg, split):
            classes = classes_of(dataset)
            path = annotation_path(dataset)
            if classes is None or path is None:
                continue
            check_classes(key, classes, path, read_category_names(path, annotated=split != 'test'))
            check_num_classes(cfg.get('model'), key, len(classes))


def classes_of(dataset: Mapping) -> Sequence[str] | None:
    """The classes that a data set's config names or its type brings; None if it is not COCO."""
    kind = dataset.get('type')
    cls = DATASETS.get(kind) if isinstance(kind, str) else kind
    if getattr(cls, 'load_data_list', None) is not CocoDataset.load_data_list:
        return None
    return DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}).metainfo['classes']


def annotation_path(dataset: Mapping) -> Path | None:
    """Where a data set's annotations are; None if nowhere on this machine."""
    root, file = dataset.get('data_root') or '', dataset.get('ann_file')
    return None if not file or '://' in f'{root}{file}' else Path(root, file)


def check_classes(key: str, classes: Sequence[str], path: Path, names: Sequence[str]) -> None:
    """Raise ValueError unless ``classes`` are some of the file's categories, in its order."""
    listed = ', '.join(map(repr, names[:100])) + (', ...' if len(names) > 100 else '')
    advice = (
        f'state those of the file, {key}.metainfo=dict(classes=({listed},)), and the same in the '
        'other data sets, or have them read by model.num_classes=None; or name another file'
    )
    if isinstance(classes, str):
        raise ValueError(
            f'the classes of {key} must be a tuple of names, got {classes!r}; a tuple of one name '
            f'has a comma: classes=({classes!r},)'
        )
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'the classes of {key} must be categories of {path}, got {len(classes)} classes, of '
            f'which it lacks {len(missing)}: {missing[:5]}; {advice}'
        )
    expected = [name for name in names if name in classes]
    if list(classes) != expected:
        raise ValueError(
            f'the classes of {key} must stand in the order of the categories in {path}, which '
            f'numbers the labels, got {list(classes)[:10]} where it has {expected[:10]}; {advice}'
        )


def check_num_classes(model: Mapping | None, key: str, number: int) -> None:
    """Raise ValueError if the model states another number of classes than the data set."""
    stated = (model or {}).get('num_classes')
    if stated not in (None, number):
        raise ValueError(
            f'model.num_classes must be the number of classes of {key}, {number}, got {stated}; '
            f'set model.num_classes={number}, or the classes by {key}.metainfo'
        )
