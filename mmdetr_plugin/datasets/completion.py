"""Fills in what a config may leave open about the data: folder, classes, number of classes."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.config import Config
from mmengine.fileio import list_from_file

from ..evaluation.coco import CheckedCocoMetric
from ..registry import DATASETS, METRICS
from .agreement import annotation_path, classes_of, names_as_text
from .annotations import read_category_names
from .coco import CheckedCocoDataset
from .image_loading import checked_step, stated_step
from .image_size import set_image_size
from .presence import annotated_datasets, check_presence, leaves_folder

Classes = tuple[str, ...]


def complete(cfg: Config) -> None:
    """Replace these values in place where the config has None:

    * ``data_root`` of a data set: the config's own ``data_root``.
    * ``model.num_classes``: the number of classes of the training data. Every `CocoDataset`, of any
      split, gets the classes of the training annotations unless it states its own.
    * ``ann_file`` of an evaluator: the annotation file of the data set that it evaluates.

    ``image_size`` of the config becomes the size of its pipelines
    (:func:`.image_size.set_image_size`).

    In addition, mmdet's `CocoDataset` and `CocoMetric` are replaced by the checked ones of this package
    (:class:`.coco.CheckedCocoDataset`). That data set checks its images, whichever loading the pipeline
    states; it gets mmcv's, which mmdet's tools look for. Pipelines that a hook switches to get the
    checked loading.

    Raises:
        FileNotFoundError: ``num_classes`` is None and the training annotation file is missing.
        ValueError: that file is not COCO, or the classes of two data sets differ; an evaluator without
            ``ann_file`` has several data sets to evaluate.
    """
    for split in ('train', 'val', 'test'):
        for _, dataset in annotated_datasets(cfg, split):
            if leaves_folder(dataset):
                dataset['data_root'] = cfg.get('data_root')
            if DATASETS.get(dataset['type']) is CocoDataset:
                dataset['type'] = f'mmdetr_plugin.{CheckedCocoDataset.__name__}'
            if DATASETS.get(dataset['type']) is CheckedCocoDataset and dataset.get('pipeline'):
                dataset['pipeline'] = [stated_step(step) for step in dataset['pipeline']]
    for hook in cfg.get('custom_hooks') or ():
        if hook.get('switch_pipeline'):
            hook['switch_pipeline'] = [checked_step(step) for step in hook['switch_pipeline']]
    set_image_size(cfg)
    model = cfg.get('model') or {}
    if 'num_classes' in model and model['num_classes'] is None:
        model['num_classes'] = len(_complete_classes(cfg))
    if model.get('criterion'):
        _name_weights(cfg, model['criterion'])
    for split in ('val', 'test'):
        _complete_evaluator(cfg, split)


def _complete_classes(cfg: Config) -> Classes:
    """The classes of the training data; sets them in every `CocoDataset`."""
    found: dict[str, Classes] = {}
    for split in ('train', 'val', 'test'):
        for key, dataset in annotated_datasets(cfg, split):
            classes = dataset_classes(key, dataset, split != 'test') or next(
                iter(found.values()), None
            )
            if classes is None:
                raise _no_classes(cfg, key)
            found[key] = classes
            if DATASETS.get(dataset['type']) is CheckedCocoDataset:
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


def _name_weights(cfg: Config, node: object) -> None:
    """Replace ``class_weight`` by name, anywhere in the criterion, by a list; others have 1."""
    if isinstance(node, (list, tuple)):
        for child in node:
            _name_weights(cfg, child)
    if not isinstance(node, MutableMapping):
        return
    named = node.get('class_weight')
    if isinstance(named, Mapping):
        _, dataset = next(annotated_datasets(cfg, 'train'), ('', {}))
        classes = classes_of(dataset) if dataset else None
        unknown = [name for name in named if name not in (classes or ())]
        if classes is None or unknown:
            raise ValueError(
                f'class_weight must name classes of the training data, {_shown(tuple(classes or ()))}, '
                f'got {unknown}; correct the names, or give a list'
            )
        weights = [float(named.get(name, 1)) for name in classes]
        if 'Softmax' in str(node.get('type')):
            weights.append(float(node.get('background_weight', 0.1)))
        node['class_weight'] = weights
    for name, child in node.items():
        if name != 'class_weight':
            _name_weights(cfg, child)


def _no_classes(cfg: Config, key: str) -> Exception:
    """The error for a data set whose classes are not known."""
    cls = DATASETS.get(next(d['type'] for k, d in annotated_datasets(cfg, 'train') if k == key))
    if not reads_coco(cls):
        return ValueError(
            f'model.num_classes=None is counted in a COCO file, but {key} is a {cls.__name__}, which '
            'has another format and states no classes; state the number: model.num_classes=601 for '
            'Open Images V6, 500 for its challenge of 2019'
        )
    advice = (
        'model.num_classes=None is counted there; state the number if the training data is missing, '
        'or use the config that training left in its work dir'
    )
    try:
        check_presence(cfg, ('train',))
    except FileNotFoundError as error:
        return FileNotFoundError(f'{error}; {advice}')
    return ValueError(f'{key} must have a COCO file on this machine or metainfo.classes; {advice}')


def dataset_classes(key: str, dataset: Mapping, annotated: bool) -> Classes | None:
    """The classes from the config, else from the data set's class, else from its file, else None."""
    stated = (dataset.get('metainfo') or {}).get('classes')
    cls = DATASETS.get(dataset['type'])
    if stated is None and cls is not CheckedCocoDataset:
        stated = getattr(cls, 'METAINFO', {}).get('classes')
    if isinstance(stated, str):  # a file with a name in each line
        if not Path(stated).is_file():
            raise names_as_text(key, stated)
        stated = list_from_file(stated)
    path = annotation_path(dataset)
    if stated is None and reads_coco(cls) and path is not None and path.is_file():
        return read_category_names(path, annotated)
    return tuple(stated) if stated else None


def reads_coco(cls: type | None) -> bool:
    return isinstance(cls, type) and issubclass(cls, CocoDataset)


def _shown(classes: Classes) -> str:
    more = f', ... ({len(classes)} of them)' if len(classes) > 10 else ''
    return f'[{", ".join(classes[:10])}{more}]'


def _complete_evaluator(cfg: Config, split: str) -> None:
    evaluators = cfg.get(f'{split}_evaluator')
    datasets = [dataset for _, dataset in annotated_datasets(cfg, split)]
    paths = [annotation_path(dataset) for dataset in datasets]
    for evaluator in evaluators if isinstance(evaluators, Sequence) else [evaluators]:
        if not isinstance(evaluator, MutableMapping):
            continue
        metrics = evaluator.get('metrics')
        pairs = [(evaluator, paths[0] if paths else None)]
        several = isinstance(metrics, Sequence) and len(metrics) == len(paths)
        if several and metrics:
            pairs = [*zip(metrics, paths)]
        for metric, path in pairs:
            if not isinstance(metric, MutableMapping):
                continue
            if 'type' in metric and METRICS.get(metric['type']) is CocoMetric:
                metric['type'] = f'mmdetr_plugin.{CheckedCocoMetric.__name__}'
            if metric.get('ann_file', '') is not None:
                continue
            if len(paths) > 1 and not several:
                raise _several_sets(split, paths)
            if path is not None:
                metric['ann_file'] = str(path)


def _several_sets(split: str, paths: Sequence[Path | None]) -> ValueError:
    files = ', '.join(str(path) for path in paths)
    return ValueError(
        f'{split}_evaluator must have an evaluator for each of the {len(paths)} data sets of '
        f'{split}_dataloader ({files}), got one without ann_file; set {split}_evaluator='
        "dict(type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=[dict("
        "type='CocoMetric', ann_file=None, metric='bbox'), ...]) with a prefix and a metric for each"
    )
