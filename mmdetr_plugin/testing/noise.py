"""Random numbers of an official run instead of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from mmdet.structures import SampleList
from torch import nn

from ..queries import DenoisingQueries, PatchQueries
from ..queries.noise import NoiseDraws, NoiseLayout
from ..queries.patches import PatchDraws


@contextmanager
def given_noise(model: nn.Module, dn: Mapping[str, np.ndarray]) -> Iterator[None]:
    """While active, the denoising queries of ``model`` use given random numbers.

    Args:
        dn: arrays of a parity case, by their names after ``dn/``. DN-DETR and DINO draw flat arrays
            (``draw_label_p``, ``draw_label_new``, ``draw_box_sign``, ``draw_box_u``, with
            ``batch_index`` and ``query_index``); RT-DETR and D-FINE draw arrays (B, N) and (B, N, 4)
            (``label_uniform``, ``new_label``, ``box_sign``, ``box_uniform``).

            For UP-DETR's pre-training, the arrays whose names begin with ``updetr/``, see
            :func:`given_patches`.

    Raises:
        ValueError: the model has no denoising queries, or the numbers are not of this batch.
    """
    if 'patches_coarse' in dn:
        with given_patches(model, dn):
            yield
        return
    with _drawing(model, lambda source: _Given(dn, source.label_noise)):
        yield


ENLARGED = 8
"""How many times a given patch is repeated along its height and width."""


@contextmanager
def given_patches(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> Iterator[None]:
    """While active, the patch queries of ``model`` have given patches and random numbers.

    Args:
        arrays: ``patches_coarse`` (B, P, 3, h, w), ``rand`` (N, B) and, where queries are shuffled, a
            permutation (N,) under any name.

    Raises:
        ValueError: the model has no patch queries.
    """
    source = next((m for m in model.modules() if isinstance(m, PatchQueries)), None)
    if source is None:
        raise ValueError(
            'given patches need a model with PatchQueries, got one without; use the config of the case'
        )
    patches = torch.from_numpy(arrays['patches_coarse'])
    patches = patches.repeat_interleave(ENLARGED, -2).repeat_interleave(ENLARGED, -1)
    uniform = torch.from_numpy(arrays['rand']).T
    number = uniform.shape[1]
    orders = [x for x in arrays.values() if x.dtype.kind in 'iu' and x.shape == (number,)]
    order = torch.from_numpy(orders[0]).long() if orders else torch.arange(number)
    draws = PatchDraws(uniform, order)
    with (
        mock.patch.object(source, 'patches', lambda memory: patches.to(memory.tokens)),
        mock.patch.object(source, 'draw', lambda batch, device: draws),
    ):
        yield


@contextmanager
def shared_noise(peer: nn.Module, model: nn.Module, seed: int = 0) -> Iterator[None]:
    """While open, mmdet's DINO or DDQ ``peer`` and ``model`` draw the same random numbers.

    mmdet's generator starts from ``seed`` whenever it is called; ours are given what it then draws.
    """
    generator = type(peer.dn_query_generator)
    make = generator.__call__

    def seeded(self: Any, samples: SampleList) -> tuple:
        torch.manual_seed(seed)
        return make(self, samples)

    with (
        mock.patch.object(generator, '__call__', seeded),
        _drawing(model, lambda source: _AsMMDet(seed, source.label_noise, source.num_classes)),
    ):
        yield


@contextmanager
def _drawing(
    model: nn.Module, make: Callable[[DenoisingQueries], Callable[[NoiseLayout], NoiseDraws]]
) -> Iterator[None]:
    """While open, ``make(source)`` stands for the ``draw`` of every source of denoising queries."""
    sources = [part for part in model.modules() if isinstance(part, DenoisingQueries)]
    if not sources:
        raise ValueError(
            'given noise needs a model with DenoisingQueries, got one without; use the config of the '
            'case'
        )

    with ExitStack() as stack:
        for source in sources:
            stack.enter_context(mock.patch.object(source, 'draw', make(source)))
        yield


@dataclass(frozen=True)
class _Given:
    """Stands in for ``DenoisingQueries.draw``."""

    dn: Mapping[str, np.ndarray]
    label_noise: float

    def __call__(self, layout: NoiseLayout) -> NoiseDraws:
        batch, size = len(layout.targets.counts), layout.size
        if 'draw_label_p' in self.dn:
            draws = self._scattered(batch, size)
        else:
            draws = _by_image(self.dn)
        if draws.label.shape != (batch, size):
            raise _wrong_batch(batch, size, str(tuple(draws.label.shape)))
        return draws

    def _scattered(self, batch: int, size: int) -> NoiseDraws:
        """Flat arrays at the images and queries they belong to; nothing is noised elsewhere."""
        image, query = (np.asarray(self.dn[n]).astype(int) for n in ('batch_index', 'query_index'))
        if len(image) and (image.max() >= batch or query.max() >= size):
            raise _wrong_batch(batch, size, f'query {query.max()} of image {image.max()}')
        label = np.ones((batch, size), np.float32)
        new_label = np.zeros((batch, size), np.int64)
        sign = np.ones((batch, size, 4), np.float32)
        box = np.full((batch, size, 4), 0.5, self.dn['draw_box_u'].dtype)
        label[image, query] = self.dn['draw_label_p']
        box[image, query] = self.dn['draw_box_u']
        if 'draw_box_sign' in self.dn:
            sign[image, query] = self.dn['draw_box_sign']
        chosen = self.dn['draw_label_p'] < self.label_noise
        new_label[image[chosen], query[chosen]] = self.dn['draw_label_new']
        return NoiseDraws(*map(torch.from_numpy, (label, new_label, sign, box)))


@dataclass(frozen=True)
class _AsMMDet:
    """Stands in for ``DenoisingQueries.draw``: what mmdet's generator draws after ``manual_seed``."""

    seed: int
    label_noise: float
    num_classes: int

    def __call__(self, layout: NoiseLayout) -> NoiseDraws:
        generator = torch.Generator().manual_seed(self.seed)
        counts, parts = layout.targets.counts, 2 * layout.groups
        image = np.repeat(np.arange(len(counts)), counts)
        place = np.concatenate([np.arange(count) for count in counts])
        number = parts * len(image)
        label = torch.rand(number, generator=generator, dtype=torch.float32)
        replaced = int((label < self.label_noise).sum())
        dn = {
            'batch_index': np.tile(image, parts),
            'query_index': np.add.outer(np.arange(parts) * layout.slots, place).ravel(),
            'draw_label_p': label,
            'draw_label_new': torch.randint(self.num_classes, (replaced,), generator=generator),
            'draw_box_sign': torch.randint(2, (number, 4), generator=generator),
            'draw_box_u': torch.rand(number, 4, generator=generator),
        }
        return _Given({name: np.asarray(v) for name, v in dn.items()}, self.label_noise)(layout)


def _by_image(dn: Mapping[str, np.ndarray]) -> NoiseDraws:
    names = ('label_uniform', 'new_label', 'box_sign', 'box_uniform')
    label, new_label, sign, box = (torch.from_numpy(np.asarray(dn[name])) for name in names)
    return NoiseDraws(label.float(), new_label.long(), sign.float(), box.float())


def _wrong_batch(batch: int, size: int, got: str) -> ValueError:
    return ValueError(
        f'the noise must be for {batch} images of {size} denoising queries, got {got}; give the '
        'batch that it was drawn for'
    )
