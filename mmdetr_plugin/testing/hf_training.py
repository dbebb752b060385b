"""Training steps of the real-time models of transformers, in the terms of ours."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import torch
from mmdet.structures import SampleList
from torch import Tensor, nn

from ..queries import DenoisingQueries
from ..structures import Targets
from .golden_names import TERMS, golden_terms

COMPARED = ('loss_cls', 'loss_bbox', 'loss_iou')
"""The terms that transformers computes as the authors do. In the losses of D-FINE's distributions it
weights the pairs of one layer by the boxes of the layer before."""


def hf_losses(peer: Any, images: Tensor, samples: SampleList) -> dict[str, Tensor]:
    """The weighted losses of ``peer`` by our names.

    Args:
        peer: a ``RTDetrForObjectDetection``, ``RTDetrV2ForObjectDetection`` or
            ``DFineForObjectDetection`` in training mode.
        images: (B, 3, H, W), not padded.
        samples: their objects.
    """
    targets = Targets.from_samples(samples, peer.config.num_labels)
    pairs = zip(targets.labels, targets.boxes, strict=True)
    labels = [{'class_labels': label, 'boxes': box.to(images.dtype)} for label, box in pairs]
    found = peer(pixel_values=images, labels=labels).loss_dict
    names = loss_names(peer)
    return {names[name]: value for name, value in found.items()}


def compared(losses: Mapping[str, Tensor], peer: Any) -> dict[str, Tensor]:
    """Those of our losses that ``peer`` has too, and computes in the same way.

    Raises:
        KeyError: one of them is not there.
    """
    return {
        name: losses[name]
        for name in dict.fromkeys(loss_names(peer).values())
        if name.endswith(COMPARED)
    }


def loss_names(peer: Any) -> dict[str, str]:
    """The names of the losses of ``peer`` -> ours."""
    layers = peer.config.decoder_layers
    if peer.config.model_type == 'd_fine':
        return _d_fine_names(layers)
    before = ['', *(f'd{i}.' for i in range(layers - 1))]
    ours = [f'{layer}{branch}' for layer, branch in product(before, ('', 'dn_'))] + ['enc_']
    return {
        name: prefix + term
        for prefix, term in product(ours, COMPARED)
        for name in golden_terms(prefix + term, layers)
    }


def _d_fine_names(layers: int) -> dict[str, str]:
    """transformers counts the boxes from which the first layer starts as a layer: the last but one of
    the detecting queries and the last of the noised ones get no loss."""
    before = ['initial.', *(f'd{i}.' for i in range(layers - 1))]
    suffixes = {'': '', f'_aux_{layers - 1}': 'enc_'}
    suffixes |= {f'_aux_{i}': prefix for i, prefix in enumerate(before[:-1])}
    suffixes |= {f'_dn_{i}': f'{prefix}dn_' for i, prefix in enumerate(before)}
    return {
        official + suffix: prefix + term
        for term in (*COMPARED, 'loss_fgl', 'loss_ddf')
        for official in TERMS.get(term, (term,))
        for suffix, prefix in suffixes.items()
    }


def train_as_transformers_(model: Any) -> nn.Module:
    """Change what transformers does in another way than the authors.

    RT-DETR: boxes of a layer send no gradient to the layer before, and the stem of the backbone is
    trained. D-FINE: each layer has its own pairs, and a noised box whose corners have crossed keeps its
    width.
    """
    if getattr(model.backbone, 'frozen_stages', -1) >= 0:
        model.backbone.frozen_stages = -1
        for part in model.backbone.modules():
            if isinstance(part, nn.Conv2d):
                part.requires_grad_(True)
    if model.head.refine == 'look_forward_twice':
        model.head.refine = 'iterative'
    model.criterion.union = ()
    for source in model.modules():
        if isinstance(source, DenoisingQueries):
            source.crossed = 'kept'
    return model


def keep_statistics_(model: nn.Module) -> nn.Module:
    """Put ``model`` into training mode, but for its batch norms."""
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def total(losses: dict[str, Tensor]) -> Tensor:
    """The sum of what is trained."""
    return torch.stack([value for name, value in losses.items() if 'loss' in name]).sum()
