"""Checks, before anything is built, that a config's classes agree with its annotation files.

mmdet's `CocoDataset` looks classes up by name and silently skips names that it does not find. Labels
follow the order of the file, so a class list in another order gives every class a wrong name.
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
    """Compare the classes of the COCO data sets with their files and with ``model.num_classes``.

    A class list may leave out categories of the file. Remote files and data sets that read their
    files in another way than mmdet's `CocoDataset` (VOC, LVIS, Objects365, ...) are not checked.

    Args:
        cfg: the whole config.
        splits: which data sets to check: ``train``, ``val``, ``test``.

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
    """The classes stated in a data set's config or by its class; None if it does not read COCO."""
    kind = dataset.get('type')
    cls = DATASETS.get(kind) if isinstance(kind, str) else kind
    if getattr(cls, 'load_data_list', None) is not CocoDataset.load_data_list:
        return None
    stated = (dataset.get('metainfo') or {}).get('classes')
    if isinstance(stated, str) and not Path(stated).is_file():
        return stated
    known = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}).metainfo['classes']
    path = annotation_path(dataset)
    if known is None and path is not None and path.is_file():
        return read_category_names(path, annotated=False)
    return known


def annotation_path(dataset: Mapping) -> Path | None:
    """Path of a data set's annotation file; None if it has none or the file is remote."""
    root, file = dataset.get('data_root') or '', dataset.get('ann_file')
    return None if not file or '://' in f'{root}{file}' else Path(root, file)


def check_classes(key: str, classes: Sequence[str], path: Path, names: Sequence[str]) -> None:
    """Raise ValueError unless ``classes`` are some of the file's categories, in its order."""
    listed = ', '.join(map(repr, names[:100])) + (', ...' if len(names) > 100 else '')
    advice = (
        f'state those of the file, {key}.metainfo=dict(classes=({listed},)), and the same in the '
        'other data sets; or set model.num_classes=None, which reads them; or name another file'
    )
    if isinstance(classes, str):
        raise names_as_text(key, classes)
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'the classes of {key} must be categories of {path}, got {len(classes)} classes, of '
            f'which the file lacks {len(missing)}: {missing[:5]}; {advice}'
        )
    expected = [name for name in names if name in classes]
    if list(classes) != expected:
        raise ValueError(
            f'the classes of {key} must be in the order of the categories in {path}, which '
            f'numbers the labels, got {list(classes)[:10]}, expected {expected[:10]}; {advice}'
        )


def names_as_text(key: str, classes: str) -> ValueError:
    """The error for ``classes=('ball')``, which is text and no tuple."""
    return ValueError(
        f'the classes of {key} must be a tuple of names, got {classes!r}; write a tuple of one '
        f'name with a comma: classes=({classes!r},)'
    )


def check_num_classes(model: Mapping | None, key: str, number: int) -> None:
    """Raise ValueError if the model and the data set state different numbers of classes."""
    stated = (model or {}).get('num_classes')
    if stated not in (None, number):
        raise ValueError(
            f'model.num_classes must be the number of classes of {key}, {number}, got {stated}; '
            f'set model.num_classes={number}, or state the classes in {key}.metainfo'
        )
