"""Training steps of the real-time models of transformers, in the terms of ours."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import torch
from mmdet.structures import SampleList
from torch import Tensor, nn

from ..structures import Targets
from .golden_names import golden_terms

TERMS = ('loss_cls', 'loss_bbox', 'loss_iou')


def hf_losses(peer: Any, images: Tensor, samples: SampleList) -> dict[str, Tensor]:
    """The weighted losses of ``peer`` by our names.

    Args:
        peer: a ``RTDetrForObjectDetection`` or ``RTDetrV2ForObjectDetection`` in training mode.
        images: (B, 3, H, W), not padded.
        samples: their objects.
    """
    targets = Targets.from_samples(samples, peer.config.num_labels)
    pairs = zip(targets.labels, targets.boxes, strict=True)
    labels = [{'class_labels': label, 'boxes': box.to(images.dtype)} for label, box in pairs]
    found = peer(pixel_values=images, labels=labels).loss_dict
    return our_names(found, peer.config.decoder_layers)


def our_names(losses: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """Losses by official names, all of them -> by ours."""
    names = {}
    for layer, branch, term in product(('', *_auxiliary(layers)), ('', 'dn_', 'enc_'), TERMS):
        if layer and branch == 'enc_':
            continue
        key = f'{layer}{branch}{term}'
        names.update({name: key for name in golden_terms(key, layers) if name in losses})
    return {names[name]: value for name, value in losses.items()}


def _auxiliary(layers: int) -> Iterable[str]:
    return (f'd{i}.' for i in range(layers - 1))


def look_forward_once_(model: nn.Module) -> nn.Module:
    """Train ``model`` as transformers does: boxes of a layer send no gradient to the layer before."""
    head: Any = model.head
    head.refine = 'iterative'
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
