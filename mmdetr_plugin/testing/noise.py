"""Random numbers of an official run in the place of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import nn

from ..queries import DenoisingQueries
from ..queries.noise import NoiseDraws, NoiseLayout


@contextmanager
def given_noise(model: nn.Module, dn: Mapping[str, np.ndarray]) -> Iterator[None]:
    """While open, the denoising queries of ``model`` use given random numbers.

    Args:
        dn: arrays of a parity case, by their names after ``dn/``. DN-DETR and DINO draw flat arrays
            (``draw_label_p``, ``draw_label_new``, ``draw_box_sign``, ``draw_box_u``, with
            ``batch_index`` and ``query_index``); RT-DETR and D-FINE draw arrays (B, N) and (B, N, 4)
            (``label_uniform``, ``new_label``, ``box_sign``, ``box_uniform``).

    Raises:
        ValueError: the model has no denoising queries, or the numbers are not of this batch.
    """
    sources = [part for part in model.modules() if isinstance(part, DenoisingQueries)]
    if not sources:
        raise ValueError(
            'given noise needs a model with DenoisingQueries, got one without; use the config of the '
            'case'
        )

    with ExitStack() as stack:
        for source in sources:
            given = _Given(dn, source.label_noise)
            stack.enter_context(mock.patch.object(source, 'draw', given))
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
        box = np.full((batch, size, 4), 0.5, np.float32)
        label[image, query] = self.dn['draw_label_p']
        box[image, query] = self.dn['draw_box_u']
        if 'draw_box_sign' in self.dn:
            sign[image, query] = self.dn['draw_box_sign']
        chosen = self.dn['draw_label_p'] < self.label_noise
        new_label[image[chosen], query[chosen]] = self.dn['draw_label_new']
        return NoiseDraws(*map(torch.from_numpy, (label, new_label, sign, box)))


def _by_image(dn: Mapping[str, np.ndarray]) -> NoiseDraws:
    names = ('label_uniform', 'new_label', 'box_sign', 'box_uniform')
    label, new_label, sign, box = (torch.from_numpy(np.asarray(dn[name])) for name in names)
    return NoiseDraws(label.float(), new_label.long(), sign.float(), box.float())


def _wrong_batch(batch: int, size: int, got: str) -> ValueError:
    return ValueError(
        f'the noise must be for {batch} images of {size} denoising queries, got {got}; give the '
        'batch that it was drawn for'
    )
