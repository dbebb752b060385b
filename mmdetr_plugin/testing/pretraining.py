"""The backbone that all variants of the convergence benchmark start from.

The papers' models start from ImageNet weights. Here the small backbone learns to name cut-out digits
of the training images, which takes minutes on a CPU, and is then frozen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints import write_checkpoint
from ..registry import MODELS

SIDE = 64  # pixels of a cut-out
CONTEXT = 1.4  # side of what is cut out, in longer sides of the box
BATCH, LR = 64, 2e-3

Glyph = tuple[np.ndarray, tuple[float, float, float, float], int]
"""Picture (H, W, 3) RGB, box (x, y, w, h) in pixels, label."""


def pretrain(
    backbone: Mapping, normalise: Mapping, data: Path, out: Path, epochs: int, seed: int
) -> None:
    """Train ``backbone``, of one output, on the glyphs of the set ``data``; write its weights.

    Args:
        normalise: its ``mean`` and ``std``, RGB in 0..255, are those of the detectors.
    """
    rng = np.random.default_rng(seed)
    glyphs = read_glyphs(data)
    labels = torch.tensor([label for *_, label in glyphs])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = MODELS.build(backbone)
        model.init_weights()
        classify = nn.LazyLinear(int(labels.max()) + 1)
        classify(model(torch.zeros(2, 3, SIDE, SIDE))[0].mean((2, 3)))
    model.train()
    parameters = [*model.parameters(), *classify.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-4)
    size = min(BATCH, len(glyphs))
    steps = len(glyphs) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, epochs * steps)
    for _ in range(epochs):
        for chosen in rng.permutation(len(glyphs))[: steps * size].reshape(steps, size):
            x = batch([glyphs[i] for i in chosen], normalise, rng)
            loss = F.cross_entropy(classify(model(x)[0].mean((2, 3))), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    write_checkpoint({'state_dict': model.state_dict()}, out)


def read_glyphs(data: Path) -> list[Glyph]:
    """Every object of the training images of a digits set."""
    content = json.loads((data / 'annotations/train.json').read_text())
    labels = {category['id']: i for i, category in enumerate(content['categories'])}
    pictures = {
        image['id']: mmcv.imread(data / 'train' / image['file_name'], channel_order='rgb')
        for image in content['images']
    }
    return [
        (pictures[one['image_id']], one['bbox'], labels[one['category_id']])
        for one in content['annotations']
    ]


def batch(glyphs: list[Glyph], normalise: Mapping, rng: np.random.Generator) -> Tensor:
    """(B, 3, SIDE, SIDE): cut-outs of random place and scale around the boxes."""
    mean, std = (np.array(normalise[key], np.float32) for key in ('mean', 'std'))
    cut = []
    for picture, (x, y, w, h), _ in glyphs:
        scale = SIDE / (CONTEXT * max(w, h) * rng.uniform(0.7, 1.4))
        cx, cy = x + w * rng.uniform(0.25, 0.75), y + h * rng.uniform(0.25, 0.75)
        to_cut = np.array([[scale, 0, SIDE / 2 - cx * scale], [0, scale, SIDE / 2 - cy * scale]])
        cut.append(cv2.warpAffine(picture, to_cut, (SIDE, SIDE), borderValue=(114, 114, 114)))
    images = (np.stack(cut).astype(np.float32) - mean) / std
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
