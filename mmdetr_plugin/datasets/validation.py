"""Checks and reports, before anything is built, what remains of the data of a run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from .agreement import annotation_path, classes_of
from .annotations import Coco, read_repaired
from .faults import Contents, Fault, read_contents
from .image_faults import image_faults
from .presence import annotated_datasets

SAMPLED = 200
"""Images of a data set whose headers are read."""

SHOWN = 3


def validate(cfg: Config, splits: tuple[str, ...]) -> None:
    """Count what remains of each COCO data set of ``splits``; log what was repaired or left out.

    A test set without annotations gets predictions only: its evaluators write them to a file.

    Raises:
        ValueError: nothing is left to train on or to evaluate; a fault would end the run later.
    """
    for split in splits:
        for key, dataset in annotated_datasets(cfg, split):
            classes, path = classes_of(dataset), annotation_path(dataset)
            if classes is None or path is None:
                continue
            coco, repairs = read_repaired(path, annotated=split != 'test')
            if repairs:
                _log(key, path, 'repaired in memory', [str(repair) for repair in repairs])
            contents = read_contents(coco, classes)
            if split == 'test' and not coco['annotations']:
                _predict_only(cfg, key, path)
            else:
                check_contents(key, path, coco, contents, dataset, training=split == 'train')
            _check_images(key, dataset, coco)


def check_contents(
    key: str, path: Path, coco: Coco, contents: Contents, dataset: Mapping, training: bool
) -> None:
    """Raise ValueError if nothing is left of a data set or training would fail; log the rest."""
    total = sum(contents.left_out.values())
    reasons = '; '.join(f'{number}: {reason}' for reason, number in contents.left_out.items())
    if not contents.sizes:
        got = f'{total} of {total + contents.num_crowds} objects are left out ({reasons})'
        if not total:
            got = f'{len(coco["images"])} images, {contents.num_crowds} crowds and no other object'
        raise ValueError(
            f'{key} must have objects, but none of {path} is left: {got}; correct the file, or name '
            'another one; tools/check_dataset.py shows each case'
        )
    if total:
        lines = [f'{total} of {total + len(contents.sizes)} objects: {reasons}']
        _log(key, path, 'left out', lines)
    for fault in contents.faults:
        if fault.what.startswith('ids of several'):
            raise ValueError(
                f'{path} must have different ids, got {fault.what}: {list(fault.cases[:SHOWN])}; '
                f'{fault.advice}'
            )
        if 'reach out' in fault.what and fault.error:
            _log(key, path, f'{len(fault.cases)} {fault.what}', [fault.advice])
    if training:
        _check_filter(key, path, coco, contents, dataset)
        _check_masks(key, path, coco, contents, dataset)
        _check_strips(key, path, coco, dataset)


def _check_filter(key: str, path: Path, coco: Coco, contents: Contents, dataset: Mapping) -> None:
    """Count the images that ``filter_cfg`` leaves out."""
    chosen = dataset.get('filter_cfg') or {}
    smallest = chosen.get('min_size', 0)
    small = sum(min(i['width'], i['height']) < smallest for i in coco['images'])
    empty = contents.num_empty if chosen.get('filter_empty_gt') else 0
    left_out = {f'smaller than min_size={smallest}': small, 'without objects': empty}
    reasons = ', '.join(f'{n} {reason}' for reason, n in left_out.items() if n)
    if max(small, empty) >= len(coco['images']):
        raise ValueError(
            f'{key} must have images, but none of {len(coco["images"])} in {path} is left: '
            f'{reasons or "the list is empty"}; correct the file or {key}.filter_cfg'
        )
    if reasons:
        _log(key, path, 'images left out by filter_cfg', [reasons])


def _check_masks(key: str, path: Path, coco: Coco, contents: Contents, dataset: Mapping) -> None:
    steps = _steps(dataset.get('pipeline'))
    if not contents.num_without_mask or not any(step.get('with_mask') for step in steps):
        return
    if any('Panoptic' in str(step.get('type')) for step in steps):
        return
    first = next(a for a in coco['annotations'] if not a.get('segmentation'))
    raise ValueError(
        f'{key} loads masks, so every object of {path} must have a segmentation, but '
        f'{contents.num_without_mask} have none, such as annotation {first["id"]} of image '
        f'{first["image_id"]}; add their polygons (for a box: its four corners), or remove them'
    )


def _check_strips(key: str, path: Path, coco: Coco, dataset: Mapping) -> None:
    """Raise ValueError for images so long that a resize makes them 0 pixels wide."""
    scales = [scale for step in _steps(dataset.get('pipeline')) for scale in _scales(step)]
    if not scales:
        return
    longest = min(max(scale) for scale in scales)
    strips = [
        image
        for image in coco['images']
        if min(image['width'], image['height']) * longest
        < 0.5 * max(image['width'], image['height'])
        and min(image['width'], image['height']) > 0
    ]
    if strips:
        raise ValueError(
            f'{key} resizes images to at most {longest} pixels, so they must not be narrower than '
            f'0.5/{longest} of their length, but {len(strips)} of {path} are, such as '
            f'{strips[0]["file_name"]}, {strips[0]["width"]} x {strips[0]["height"]}; tile or remove '
            'them'
        )


def _steps(node: Any) -> Iterator[Mapping]:
    """Every dictionary of a pipeline, at any depth."""
    if isinstance(node, Mapping):
        yield node
        for child in node.values():
            yield from _steps(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _steps(child)


def _scales(step: Mapping) -> Iterator[Sequence[int]]:
    if 'Resize' not in str(step.get('type')):
        return
    for name in ('scale', 'scales'):
        stated = step.get(name)
        nested = isinstance(stated, (list, tuple)) and stated and not isinstance(stated[0], int)
        for scale in [*stated] if nested and stated else [stated]:
            if isinstance(scale, (list, tuple)) and len(scale) == 2:
                yield scale


def _check_images(key: str, dataset: Mapping, coco: Coco) -> None:
    """Read the headers of a sample of images; raise ValueError if some are not there."""
    folder = Path(dataset.get('data_root') or '', (dataset.get('data_prefix') or {}).get('img', ''))
    if '://' in str(dataset.get('data_root')) or dataset.get('backend_args'):
        return
    for fault in image_faults(coco, folder, threads=4, most=SAMPLED):
        text = _described(fault, min(SAMPLED, len(coco['images'])))
        if fault.what.startswith('images that') and fault.error:
            raise ValueError(f'the images of {key} must be readable, got {text}')
        print_log(f'{key}: {text}', 'current', logging.WARNING)


def _described(fault: Fault, looked_at: int) -> str:
    more = ', ...' if len(fault.cases) > SHOWN else ''
    cases = ', '.join(map(str, fault.cases[:SHOWN]))
    return (
        f'{len(fault.cases)} {fault.what}, of {looked_at} looked at ({cases}{more}); {fault.advice}'
    )


def _predict_only(cfg: Config, key: str, path: Path) -> None:
    """Make the evaluators of a test set without annotations write predictions to a file."""
    evaluators = cfg.get('test_evaluator')
    for evaluator in evaluators if isinstance(evaluators, Sequence) else [evaluators]:
        if isinstance(evaluator, MutableMapping) and 'CocoMetric' in str(evaluator.get('type')):
            evaluator['format_only'] = True
            prefix = evaluator.get('outfile_prefix') or str(
                Path(cfg.get('work_dir') or '.', 'predictions')
            )
            evaluator['outfile_prefix'] = prefix
            _log(key, path, 'no annotations', [f'predictions are written to {prefix}.bbox.json'])


def _log(key: str, path: Path, what: str, lines: Sequence[str]) -> None:
    print_log(f'{key} ({path}): {what}: {"; ".join(lines)}', 'current', logging.WARNING)
