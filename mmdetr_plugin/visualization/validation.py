"""A picture of what a trained model sees in its validation images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from mmengine.runner import Runner

from ..checkpoints import written_whole
from .grid import Picture, draw_grid

CELLS = 24
SIDE = 320  # pixels of the longer side of an image in the grid, at most


def draw_validation(runner: Runner, path: Path, resized_truth: bool = False) -> None:
    """Write a PNG of the first validation images with their predicted and true boxes.

    Args:
        runner: has trained; its validation loader and model are used.
        path: of the PNG, written whole or not at all.
        resized_truth: true boxes are in pixels of the network's input, not of the files.
    """
    pictures: list[Picture] = []
    for batch in runner.val_dataloader:
        samples = runner.model.val_step(batch)
        for image, sample in zip(batch['inputs'], samples, strict=True):
            found, truth = sample.pred_instances.cpu().numpy(), sample.gt_instances.cpu().numpy()
            shrunk = min(1.0, SIDE / max(image.shape[1:]))
            scale = np.tile(sample.scale_factor, 2) * shrunk  # from pixels of the file
            pixels = np.ascontiguousarray(image.numpy().transpose(1, 2, 0)[..., ::-1])
            pictures.append(
                Picture(
                    image=cv2.resize(pixels, None, fx=shrunk, fy=shrunk),
                    boxes=found.bboxes * scale,
                    labels=found.labels,
                    scores=found.scores,
                    true_boxes=truth.bboxes * (shrunk if resized_truth else scale),
                    true_labels=truth.labels,
                )
            )
        if len(pictures) >= CELLS:
            break
    grid = draw_grid(pictures[:CELLS], runner.val_dataloader.dataset.metainfo['classes'])
    png = cv2.imencode('.png', grid[..., ::-1])[1]
    with written_whole(path) as file:
        file.write(png.tobytes())
