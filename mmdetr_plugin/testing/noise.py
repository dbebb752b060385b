"""Random numbers of an official run in the place of our own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
            ``batch_index`` and ``query_index``), RT-DETR and D-FINE arrays of (B, N) (``label_uniform``,
            ``new_label``, ``box_sign``, ``box_uniform``).

    Raises:
        ValueError: the model has no denoising queries, or the numbers are not of this batch.
    """
    sources = [part for part in model.modules() if isinstance(part, DenoisingQueries)]
    if not sources:
        raise ValueError(
            'given noise needs a model with DenoisingQueries, got one without; use the config of the '
            'case'
        )

    def draw(layout: NoiseLayout) -> NoiseDraws:
        batch = len(layout.targets.counts)
        draws = _scattered(dn, batch, layout.size) if 'draw_label_p' in dn else _by_image(dn)
        if draws.label.shape != (batch, layout.size):
            raise ValueError(
                f'the noise must be for {batch} images of {layout.size} denoising queries, got '
                f'{tuple(draws.label.shape)}; give the batch that it was drawn for'
            )
        return draws

    for source in sources:
        source.draw = draw  # type: ignore[method-assign] - for this model alone
    try:
        yield
    finally:
        for source in sources:
            del source.draw


def _by_image(dn: Mapping[str, np.ndarray]) -> NoiseDraws:
    names = ('label_uniform', 'new_label', 'box_sign', 'box_uniform')
    label, new_label, sign, box = (torch.from_numpy(np.asarray(dn[name])) for name in names)
    return NoiseDraws(label.float(), new_label.long(), sign.float(), box.float())


def _scattered(dn: Mapping[str, np.ndarray], batch: int, size: int) -> NoiseDraws:
    """Flat arrays at the images and queries they belong to; nothing is noised elsewhere."""
    place = tuple(np.asarray(dn[name]).astype(int) for name in ('batch_index', 'query_index'))
    if len(place[0]) and (place[0].max() >= batch or place[1].max() >= size):
        raise ValueError(
            f'the noise must be for {batch} images of {size} denoising queries, got query '
            f'{place[1].max()} of image {place[0].max()}; give the batch that it was drawn for'
        )
    label = np.ones((batch, size), np.float32)
    new_label = np.zeros((batch, size), np.int64)
    sign = np.ones((batch, size, 4), np.float32)
    box = np.full((batch, size, 4), 0.5, np.float32)
    label[place] = dn['draw_label_p']
    box[place] = dn['draw_box_u']
    if 'draw_box_sign' in dn:
        sign[place] = dn['draw_box_sign']
    replaced = dn['known_labels'] != dn['target_labels'] if 'target_labels' in dn else None
    new_label[place] = dn['known_labels'] if replaced is None else dn['known_labels']
    return NoiseDraws(*map(torch.from_numpy, (label, new_label, sign, box)))
