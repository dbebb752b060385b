"""A loaded model that finds objects in pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, cast, overload

import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel

from .detections import ImageDetections
from .pictures import ImageLike, Picture, open_picture, pipeline_inputs, split_pipeline

PRECISIONS = {'fp16': torch.float16, 'bf16': torch.bfloat16}

OnError = Callable[[ImageLike | Picture, Exception], None]


class Predictor:
    """``predictor(image)``: the detections of an image, a path, or a list of them.

    Args:
        model: a detector in evaluation mode, on its device.
        pipeline: configs of the steps of a test pipeline.
        classes: names in the order of the labels.
    """

    def __init__(
        self, model: BaseModel, pipeline: Sequence[Mapping], classes: Sequence[str]
    ) -> None:
        self.model = model
        self.classes = tuple(classes)
        self.load_file, self.pipeline = split_pipeline(pipeline)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @overload
    def __call__(self, images: ImageLike, **options: Any) -> ImageDetections: ...

    @overload
    def __call__(self, images: Sequence[ImageLike], **options: Any) -> list[ImageDetections]: ...

    def __call__(
        self, images: ImageLike | Sequence[ImageLike], **options: Any
    ) -> ImageDetections | list[ImageDetections]:
        """Find objects.

        Args:
            images: a path, an array (H, W, 3) uint8 in RGB order, a PIL image, or a list of these.
            options: of :meth:`stream`.

        Returns:
            The detections of the image, or a list for a list.
        """
        if isinstance(images, (list, tuple)):
            return list(self.stream(images, **options))
        (found,) = self.stream([cast(ImageLike, images)], **options)
        return found

    def stream(
        self,
        images: Iterable[ImageLike | Picture],
        score_thr: float = 0.3,
        classes: Sequence[str] | None = None,
        batch_size: int = 1,
        amp: str | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[ImageDetections]:
        """The detections of one image after the other; images are opened as they are needed.

        Args:
            score_thr: detections with lower scores are left out.
            classes: keep detections of these classes only; None = all.
            batch_size: images computed at once; smaller ones are padded, which some models notice.
            amp: ``fp16`` or ``bf16``: compute in mixed precision.
            on_error: called with an image that cannot be read and the error, and the image is left
                out; None = the error is raised.

        Raises:
            ValueError: an option is out of range, or an image cannot be read.
        """
        if not 0 <= score_thr <= 1:
            raise ValueError(f'score_thr must be in 0..1, got {score_thr}; change it')
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, got {batch_size}; change it')
        labels = self._labels(classes)
        precision = self._precision(amp)
        opened = self._open(images, on_error)
        while batch := [*islice(opened, batch_size)]:
            data = pseudo_collate([self.pipeline(pipeline_inputs(picture)) for picture in batch])
            with torch.no_grad(), precision:
                samples = self.model.test_step(data)
            for picture, sample in zip(batch, samples, strict=True):
                sample = sample.cpu()
                instances = sample.pred_instances
                kept = instances.scores >= score_thr
                if labels is not None:
                    kept &= torch.isin(instances.labels, labels)
                sample.pred_instances = instances[kept]
                yield ImageDetections(picture.rgb(), sample, self.classes, picture.path)

    def _open(
        self, images: Iterable[ImageLike | Picture], on_error: OnError | None
    ) -> Iterator[Picture]:
        for image in images:
            try:
                picture = open_picture(image, self.load_file)
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(image, error)
            else:
                yield picture

    def _labels(self, classes: Sequence[str] | None) -> torch.Tensor | None:
        if classes is None:
            return None
        unknown = [name for name in classes if name not in self.classes]
        if unknown or isinstance(classes, str):
            raise ValueError(
                f'classes must be a list of names that the model knows, {list(self.classes[:20])}, '
                f'got {classes!r}; correct {unknown or "the list"}'
            )
        return torch.tensor([self.classes.index(name) for name in classes])

    def _precision(self, amp: str | None) -> AbstractContextManager:
        if amp is None:
            return nullcontext()
        if amp not in PRECISIONS:
            raise ValueError(f'amp must be one of {list(PRECISIONS)} or None, got {amp!r}')
        return torch.autocast(self.device.type, PRECISIONS[amp])
