"""One argument for the size of images, ``image_size``, instead of a copy of each pipeline."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from mmengine.config import Config

DIVISOR = 32
"""Sides of squares must be multiples of it, the largest stride of the models that read squares."""

SIZES = {
    'Resize': ('scale',),
    'RandomChoiceResize': ('scales',),
    'RandomResize': ('scale',),
    'RandomCrop': ('crop_size',),
    'Pad': ('size',),
    'QuadMosaic': ('side',),
    'BatchRandomResize': ('sizes',),
}
"""For each transform its arguments that are pixels where they are integers."""

_PLACES = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'tta_pipeline', 'custom_hooks')


def set_image_size(cfg: Config) -> None:
    """Scale all pipelines of a config so that tests see images of ``image_size``.

    ``image_size`` is the side of the squares where the pipeline of the test makes squares, else the
    shorter side. Every size in the pipelines of training, validation, test and hooks is multiplied by
    the same factor, those of squares are rounded to multiples of 32. Nothing changes where the config
    has no ``image_size``, or where the pipelines have it already.

    Raises:
        ValueError: ``image_size`` is no positive integer, no multiple of 32 for squares, or the test
            pipeline has no ``Resize``.
    """
    wanted = cfg.get('image_size')
    if wanted is None:
        return
    resize = resize_of_tests(cfg)
    squares = not resize.get('keep_ratio')
    if type(wanted) is not int or wanted < 1 or (squares and wanted % DIVISOR):
        kind = f'a multiple of {DIVISOR}' if squares else 'a positive integer'
        raise ValueError(f'image_size must be {kind}, got {wanted!r}; correct it, or leave it out')
    present = min(resize['scale'])
    if present == wanted:
        return
    places = [cfg.get(key) for key in _PLACES]
    # mmdet's augmentation of batches is in the model's data preprocessor.
    places.append((cfg.get('model') or {}).get('data_preprocessor'))
    for node in _transforms(places):
        for name in SIZES.get(_kind(node), ()):
            if name in node:
                node[name] = _scaled(node[name], wanted / present, DIVISOR if squares else 1)


def resize_of_tests(cfg: Config) -> MutableMapping:
    """The step of the test pipeline that resizes.

    Raises:
        ValueError: there is none with a scale.
    """
    for node in _transforms(cfg.get('test_dataloader')):
        if _kind(node) == 'Resize' and node.get('scale'):
            return node
    raise ValueError(
        'image_size needs a Resize with a scale in the pipeline of test_dataloader, got none; add one, '
        'or leave out image_size'
    )


def _kind(node: MutableMapping) -> str:
    kind = node.get('type')
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')


def _transforms(node: Any) -> Iterator[MutableMapping]:
    """Every dictionary with a type at or below ``node``, each once."""
    seen, left = set(), [node]
    while left:
        node = left.pop(0)
        if id(node) in seen:  # the test data are often the validation data
            continue
        seen.add(id(node))
        if isinstance(node, MutableMapping):
            if 'type' in node:
                yield node
            left += node.values()
        elif isinstance(node, Sequence) and not isinstance(node, str):
            left += node


def _scaled(value: Any, factor: float, divisor: int) -> Any:
    """Numbers of pixels times ``factor``, at least one ``divisor``; shares of an image are kept."""
    if isinstance(value, (list, tuple)):
        made = [_scaled(x, factor, divisor) for x in value]
        return type(value)(made)
    if type(value) is not int:
        return value
    return max(round(value * factor / divisor), 1) * divisor
