"""What a config may leave open about the user's data: folder, classes and their number."""

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
    """Fill in, in place, what is None in a config and follows from its data.

    * ``data_root`` of a data set: the config's own ``data_root``.
    * ``model.num_classes``: the number of classes of the training data; `CocoDataset`s of all splits
      get the classes of the training annotations unless they state their own.
    * ``ann_file`` of an evaluator: that of the data set which it evaluates.

    Raises:
        FileNotFoundError: the classes are wanted, but there is no training annotation file.
        ValueError: it is not a COCO file, or two data sets have other classes.
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
    """The classes of the training data, which every data set then has."""
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
            'model.num_classes=None needs data with an annotation file, got none; state it'
        )
    (first, classes), *others = found.items()
    for key, other in others:
        if other != classes:
            raise ValueError(
                f'{key} must have the classes of {first} in the same order, {_shown(classes)}, got '
                f'{_shown(other)}; labels are counted in the order of the categories in a file, so '
                'write both files with the same list of categories'
            )
    return classes


def _no_classes(cfg: Config, key: str) -> Exception:
    """Why the classes of a data set are not known."""
    advice = (
        'model.num_classes=None is counted there; state it where the training data is missing, or '
        'use the config that training left in its work dir'
    )
    try:
        check_presence(cfg, ('train',))
    except FileNotFoundError as error:
        return FileNotFoundError(f'{error}; {advice}')
    return ValueError(f'{key} must have a COCO file on this machine or metainfo.classes; {advice}')


def _classes(dataset: Mapping) -> Classes | None:
    """Stated in the config, else those of data that its class is made for, else of the file, if any."""
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
