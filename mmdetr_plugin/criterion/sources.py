"""Sets of predictions that are matched and trained alike, and their pairs with objects."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .targets import Targets


@dataclass(frozen=True)
class Source:
    """Predictions of L layers of one kind with the objects they are matched with.

    ``prefixes`` has an entry per layer, which the names of its losses begin with; in ``name``, what
    messages call a layer, {} stands for its number.
    """

    name: str
    prefixes: tuple[str, ...]
    logits: Tensor  # (L, B, N, K)
    boxes: Tensor  # (L, B, N, 4), cxcywh in 0..1
    targets: Targets


@dataclass(frozen=True)
class Matches:
    """Pairs of one source, M in every layer, ordered by image and query."""

    query: Tensor  # (L, M) image * N + query
    target: Tensor  # (L, M) image * T + object
    counts: tuple[int, ...]  # pairs of each image
    objects: tuple[int, ...]  # objects of each image, without those whose box has no area
    num_queries: int  # N
    num_slots: int  # T

    @property
    def unmatched(self) -> int:
        """Objects that no query is left for."""
        return sum(self.objects) - sum(self.counts)

    def per_image(self, layer: int) -> list[tuple[Tensor, Tensor]]:
        """(queries, objects) of each image, sorted by query, as scipy numbers them."""
        pairs = zip(self.query[layer].split(self.counts), self.target[layer].split(self.counts))
        return [
            (query - image * self.num_queries, target - image * self.num_slots)
            for image, (query, target) in enumerate(pairs)
        ]


def collect_sources(outputs: dict[str, Tensor], targets: Targets, encoder: bool) -> list[Source]:
    """The decoder's layers, then a two-stage encoder's proposals if ``encoder``."""
    logits, boxes = outputs['pred_logits'], outputs['pred_boxes']
    prefixes = (*(f'd{layer}.' for layer in range(len(logits) - 1)), '')
    sources = [Source('decoder layer {}', prefixes, logits, boxes, targets)]
    if encoder and outputs.get('enc_logits') is not None:
        sources.append(
            Source(
                'encoder proposals',
                ('enc_',),
                outputs['enc_logits'].unsqueeze(0),
                outputs['enc_boxes'].unsqueeze(0),
                targets.class_agnostic(),
            )
        )
    return sources


def full_precision(tensor: Tensor) -> Tensor:
    """float32 for anything narrower: matching and losses never run in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
