"""Any config of the project, shrunk so that a forward pass takes milliseconds."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import State
from mmdetr_plugin.testing import TINY, given_features, shrink

Size = tuple[int, int]
ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(file.stem for file in (ROOT / 'configs').glob('*.py'))
FINETUNE = sorted(f'finetune/{file.stem}' for file in (ROOT / 'configs/finetune').glob('*.py'))
WIDTH = TINY.model['embed_dims']
NUM_QUERIES = TINY.everywhere['num_queries']
NUM_CLASSES = TINY.model['num_classes']
CANVAS = (64, 96)  # a whole number of cells at stride 32
MANY = 50  # objects, more than queries in any shrunk model


@cache
def _load(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def load(name: str) -> Config:
    return copy.deepcopy(_load(name))


@cache
def different_models() -> list[str]:
    """The configs whose shrunk models differ; of those with equal ones, the first."""
    found: dict[str, str] = {}
    for name in CONFIGS:
        found.setdefault(repr(shrink(load(name).model)), name)
    return list(found.values())


def build(name: str, seed: int = 0, **changes: object) -> nn.Module:
    """The shrunk model of a config, in evaluation mode, with weights from ``seed``."""
    torch.manual_seed(seed)
    model = MODELS.build(shrink(load(name).model, **changes)).eval()
    return randomise_(model, seed)


def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Add noise to every vector and to matrices that start at zero: nothing stays degenerate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                parameter += 0.1 * noise
            elif not parameter.any():
                parameter += 0.5 * noise / parameter[0].numel() ** 0.5
    return model


@contextlib.contextmanager
def training(model: nn.Module) -> Iterator[nn.Module]:
    """The model in training mode; batch norms keep their statistics, trained or not."""
    model.train()
    model.backbone.eval()
    for part in model.modules():
        if isinstance(part, _BatchNorm):
            part.eval()
    yield model
    model.eval()


def samples(
    counts: Sequence[int], sizes: Sequence[Size], num_classes: int = NUM_CLASSES
) -> list[DetDataSample]:
    """Images of ``sizes`` (height, width) with ``counts`` random objects, on a common canvas.

    The mask of an object is its box.
    """
    generator = torch.Generator().manual_seed(3)
    canvas = tuple(max(size[i] for size in sizes) for i in (0, 1))
    out = []
    for i, (count, (height, width)) in enumerate(zip(counts, sizes)):
        scale = torch.tensor((width, height))
        corner = torch.rand(count, 2, generator=generator) * 0.6
        extent = 0.1 + 0.3 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat((corner * scale, (corner + extent) * scale), 1)
        labels = torch.randint(0, num_classes, (count,), generator=generator)
        meta = {'img_shape': (height, width), 'ori_shape': (2 * height, 2 * width)}
        sample = DetDataSample(metainfo={**meta, 'batch_input_shape': canvas, 'img_id': i})
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=labels, masks=box_masks(boxes, height, width)
        )
        out.append(sample)
    return out


def box_masks(boxes: Tensor, height: int, width: int) -> BitmapMasks:
    """Masks of boxes xyxy in pixels."""
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist()):
        mask[top:bottom, left:right] = 1
    return BitmapMasks(masks, height, width)


def batch(
    counts: Sequence[int] = (3, 1), sizes: Sequence[Size] = (CANVAS, (50, 70))
) -> tuple[Tensor, list[DetDataSample]]:
    """Random images, zero where they are padded, and their samples."""
    data_samples = samples(counts, sizes)
    images = torch.zeros(len(counts), 3, *data_samples[0].batch_input_shape)
    generator = torch.Generator().manual_seed(4)
    for image, (height, width) in zip(images, sizes):
        image[:, :height, :width] = torch.randn(3, height, width, generator=generator)
    return images, data_samples


def permute_queries(state: State, order: Tensor) -> State:
    """A state with its queries in another order."""
    changed = state.map(lambda x: x[:, order])
    if state.self_mask is not None:
        changed = replace(changed, self_mask=state.self_mask[..., order, :][..., order])
    if state.memory_mask is not None:
        changed = replace(changed, memory_mask=state.memory_mask[..., order, :])
    return changed


@contextlib.contextmanager
def changed_state(model: nn.Module, change: Callable[[State], State]) -> Iterator[None]:
    """While open, the decoder starts from ``change(state)``."""

    def hook(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return (change(args[0]), *args[1:]), kwargs

    handle = model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def fixed_selection(model: nn.Module, index: Tensor | None = None) -> Iterator[None]:
    """While open, a two-stage model selects the tokens ``index`` (B, N), or those of its first call.

    Where several groups of queries are selected, each keeps its own. Other models are as they are.
    """
    sources = [m for m in model.queries.modules() if callable(getattr(m, 'best', None))]
    for source in sources:
        source.best = _fixed_best(source, index)
    try:
        yield
    finally:
        for source in sources:
            del source.best


def _fixed_best(source: Any, index: Tensor | None) -> Callable[[Tensor, int], Tensor]:
    every = index

    def best(logits: Tensor, number: int) -> Tensor:
        nonlocal every
        if every is None:  # all in their order: more may be asked for when losses are computed
            every = type(source).best(source, logits, logits.shape[1])
        return every[:, :number].to(logits.device)

    return best


def decode_features(
    model: nn.Module, padding: tuple[int, int], index: Tensor | None = None
) -> dict[str, Tensor]:
    """Outputs of the decoder for one image of which only the neck's features are given.

    The image covers 128 x 192 pixels; below it and to its right are ``padding`` times 64 pixels with
    features of their own. ``index`` (1, N) are the tokens of the image without padding that a
    two-stage model selects.
    """
    image = (128, 192)
    canvas = tuple(size + 64 * more for size, more in zip(image, padding))
    generators = [torch.Generator().manual_seed(seed) for seed in (6, 7)]
    with torch.no_grad():
        given = [model.extract_feat(torch.zeros(1, 3, *size)) for size in (image, canvas)]
        inner, outer = ([m.shape[-2:] for m in features] for features in given)
        maps = [torch.randn(m.shape, generator=generators[1]) for m in given[1]]
        for large, (height, width) in zip(maps, inner):
            features = torch.randn(1, len(large[0]), height, width, generator=generators[0])
            large[..., :height, :width] = features
        sample = DetDataSample(metainfo={'img_shape': image, 'batch_input_shape': canvas})
        index = None if index is None else move_tokens(index, inner, outer)
        without_masks = mock.patch.object(model, 'mask_head', None)
        with fixed_selection(model, index), given_features(model, maps), without_masks:
            outputs = model.run(torch.zeros(1, 3, *canvas), [sample]).tensors()
    return {key: outputs[key] for key in ('pred_logits', 'pred_boxes')}


def move_tokens(index: Tensor, inner: Sequence[Size], outer: Sequence[Size]) -> Tensor:
    """Indices of tokens of levels of sizes ``inner`` in levels padded to ``outer``."""
    numbers, start = [], 0
    for (height, width), (rows, columns) in zip(inner, outer):
        numbers.append((start + torch.arange(rows * columns).view(rows, columns))[:height, :width])
        start += rows * columns
    return torch.cat([number.flatten() for number in numbers])[index]
