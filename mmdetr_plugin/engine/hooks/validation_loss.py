"""Losses of the validation set."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ...registry import HOOKS


@HOOKS.register_module()
class ValidationLossHook(Hook):
    """Adds the mean losses of the validation images to the metrics, as ``loss/...``.

    They are logged as ``val/loss/...`` and may choose the best checkpoint
    (``save_best='loss/total', rule='less'``). The model is in evaluation mode. With ``EMAHook`` it has
    the averaged weights. Each batch is computed a second time for its losses. The pipeline of the
    validation set must load annotations; boxes that it loads after a resize are scaled here.
    """

    priority = 'HIGHEST'  # before the metrics are logged

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.images = 0

    def before_val_epoch(self, runner: Runner) -> None:
        self.sums, self.images = {}, 0

    @torch.no_grad()
    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Any = None,
    ) -> None:
        if data_batch is None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        with torch.random.fork_rng():  # denoising draws numbers; the run must not depend on them
            data = model.data_preprocessor(data_batch, False)
            samples = [sample.clone() for sample in data['data_samples']]
            if loads_boxes_after_resize(runner.val_dataloader.dataset):
                for sample in samples:
                    scale_boxes(sample)
            losses = model(data['inputs'], samples, mode='loss')
        _, values = model.parse_losses(losses)
        for name, value in values.items():
            name = 'total' if name == 'loss' else name
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach() * len(
                samples
            )
        self.images += len(samples)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if metrics is None or not self.images:
            return
        for name, total in self.sums.items():
            pair = torch.stack([total.double(), total.new_tensor(self.images).double()])
            all_reduce(pair)
            metrics[f'loss/{name}'] = float(pair[0] / pair[1])


def loads_boxes_after_resize(dataset: Any) -> bool:
    """Whether a pipeline resizes images before it loads the boxes, as for evaluation."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    names = [type(step).__name__ for step in steps]
    load = next((i for i, name in enumerate(names) if name.startswith('LoadAnno')), -1)
    return any('Resize' in name for name in names[: max(load, 0)])


def scale_boxes(sample: Any) -> None:
    """Scale the boxes of a sample, in pixels of the original image, to the network's input."""
    width, height = sample.scale_factor
    objects = sample.gt_instances
    boxes = objects.bboxes
    boxes = boxes if isinstance(boxes, Tensor) else boxes.tensor
    objects.bboxes = boxes * boxes.new_tensor((width, height, width, height))
    if 'masks' in objects:
        objects.masks = objects.masks.resize(tuple(sample.img_shape[:2]))
