"""Fills in what a config may leave open about the data: folder, classes, number of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.fileio import list_from_file

from ..registry import DATASETS
from .agreement import annotation_path
from .annotations import read_category_names
from .presence import annotated_datasets, check_presence, leaves_folder

Classes = tuple[str, ...]


def complete(cfg: Config) -> None:
    """Replace these values in place where the config has None:

    * ``data_root`` of a data set: the config's own ``data_root``.
    * ``model.num_classes``: the number of classes of the training data. Every `CocoDataset`, of any
      split, gets the classes of the training annotations unless it states its own.
    * ``ann_file`` of an evaluator: the annotation file of the data set that it evaluates.

    Raises:
        FileNotFoundError: ``num_classes`` is None and the training annotation file is missing.
        ValueError: that file is not COCO, or the classes of two data sets differ.
    """
    for split in ('train', 'val', 'test'):
        for _, dataset in annotated_datasets(cfg, split):
            if leaves_folder(dataset):
                dataset['data_root'] = cfg.get('data_root')
    model = cfg.get('model') or {}
    if 'num_classes' in model and model['num_classes'] is None:
        model['num_classes'] = len(_complete_classes(cfg))
    for split in ('val', 'test'):
        _complete_evaluator(cfg, split)


def _complete_classes(cfg: Config) -> Classes:
    """The classes of the training data; sets them in every `CocoDataset`."""
    found: dict[str, Classes] = {}
    for split in ('train', 'val', 'test'):
        for key, dataset in annotated_datasets(cfg, split):
            classes = _classes(dataset) or next(iter(found.values()), None)
            if classes is None:
                raise _no_classes(cfg, key)
            found[key] = classes
            if DATASETS.get(dataset['type']) is CocoDataset:
                dataset['metainfo'] = {**(dataset.get('metainfo') or {}), 'classes': classes}
    if not found:
        raise ValueError(
            'model.num_classes=None needs data with an annotation file, got none; state the number'
        )
    (first, classes), *others = found.items()
    for key, other in others:
        if other != classes:
            raise ValueError(
                f'{key} must have the classes of {first} in the same order, {_shown(classes)}, got '
                f'{_shown(other)}; labels follow the order of the categories in a file, so write '
                'both files with the same list of categories'
            )
    return classes


def _no_classes(cfg: Config, key: str) -> Exception:
    """The error for a data set whose classes are not known."""
    advice = (
        'model.num_classes=None is counted there; state the number if the training data is missing, '
        'or use the config that training left in its work dir'
    )
    try:
        check_presence(cfg, ('train',))
    except FileNotFoundError as error:
        return FileNotFoundError(f'{error}; {advice}')
    return ValueError(f'{key} must have a COCO file on this machine or metainfo.classes; {advice}')


def _classes(dataset: Mapping) -> Classes | None:
    """The classes from the config, else from the data set's class, else from its file, else None."""
    stated = (dataset.get('metainfo') or {}).get('classes')
    cls = DATASETS.get(dataset['type'])
    if stated is None and cls is not CocoDataset:
        stated = getattr(cls, 'METAINFO', {}).get('classes')
    path = annotation_path(dataset)
    if stated is None and path is not None and path.is_file():
        return read_category_names(path)
    return tuple(list_from_file(stated) if isinstance(stated, str) else stated) if stated else None


def _shown(classes: Classes) -> str:
    more = f', ... ({len(classes)} of them)' if len(classes) > 10 else ''
    return f'[{", ".join(classes[:10])}{more}]'


def _complete_evaluator(cfg: Config, split: str) -> None:
    evaluators = cfg.get(f'{split}_evaluator')
    datasets = [dataset for _, dataset in annotated_datasets(cfg, split)]
    for evaluator in evaluators if isinstance(evaluators, Sequence) else [evaluators]:
        wanted = isinstance(evaluator, Mapping) and evaluator.get('ann_file', '') is None
        path = annotation_path(datasets[0]) if len(datasets) == 1 else None
        if wanted and path is not None:
            evaluator['ann_file'] = str(path)
