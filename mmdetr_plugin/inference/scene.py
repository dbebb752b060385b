"""One image with its best objects and the attention that found them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from mmdet.structures import SampleList
from mmengine.dataset import pseudo_collate
from torch import Tensor

from ..attention import AttentionRecords, record_attention
from ..detector import DETR
from ..heads.postprocess import to_instances
from ..structures.memory import map_size
from .pictures import ImageLike, Picture, open_picture, pipeline_inputs
from .predictor import Predictor


@dataclass(frozen=True)
class Scene:
    """What figures of attention show.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        canvas: (width, height) of the padded input of the network, in pixels of ``image``.
        boxes: (K, 4) of the best objects, left, top, right, bottom in pixels.
        names, scores: of these objects.
        queries: (K,), the query that found each object.
        records: the attention of all ops.
    """

    image: np.ndarray
    canvas: tuple[float, float]
    boxes: np.ndarray
    names: list[str]
    scores: list[float]
    queries: list[int]
    records: AttentionRecords


def detector_of(predictor: Predictor) -> DETR:
    """The model of a predictor.

    Raises:
        ValueError: it is not one of this project's detectors.
    """
    if not isinstance(predictor.model, DETR):
        raise ValueError(
            'figures of attention and queries need a model of this project, got '
            f'{type(predictor.model).__name__}; choose a config whose model is mmdetr_plugin.DETR'
        )
    return predictor.model


@torch.no_grad()
def look(predictor: Predictor, image: ImageLike, objects: int = 4) -> Scene:
    """Predict on an image and keep the attention.

    Args:
        objects: number of objects, the best of different queries.

    Raises:
        ValueError: the model is not one of this project's detectors.
    """
    model = detector_of(predictor)
    picture, inputs, samples = _inputs(predictor, image)
    with record_attention(model) as records:
        prediction = model.run(inputs, samples, aux=False).layers[-1]
    boxes = prediction.detected_boxes
    found = model.postprocess(prediction.ranked(), boxes)
    instances = to_instances(boxes, found, samples, rescale=True)[0].cpu()
    queries = found.queries[0].tolist()
    best: dict[int, int] = {}  # query -> its best detection
    for i in instances.scores.argsort(descending=True).tolist():
        if instances.labels[i] < model.num_classes:
            best.setdefault(queries[i], i)
    chosen = [*best.values()][:objects]
    height, width = map_size(inputs)
    scale = [a / b for a, b in zip(samples[0].ori_shape[:2], samples[0].img_shape[:2])]
    return Scene(
        image=picture.rgb(),
        canvas=(width * scale[1], height * scale[0]),
        boxes=instances.bboxes[chosen].numpy(),
        names=[predictor.classes[label] for label in instances.labels[chosen].tolist()],
        scores=instances.scores[chosen].tolist(),
        queries=[*best][:objects],
        records=records,
    )


@torch.no_grad()
def predicted_boxes(predictor: Predictor, image: ImageLike) -> np.ndarray:
    """(N, 4): the box of every detecting query, cxcywh in 0..1 of the image."""
    model = detector_of(predictor)
    _, inputs, samples = _inputs(predictor, image)
    outputs = model.run(inputs, samples, aux=False)
    return outputs.layers[-1].boxes[0, outputs.detecting].float().cpu().numpy()


def _inputs(predictor: Predictor, image: ImageLike) -> tuple[Picture, Tensor, SampleList]:
    """The picture, and the batch (1, 3, H, W) with its sample that the network gets."""
    picture = open_picture(image, predictor.load_file)
    batch = pseudo_collate([predictor.pipeline(pipeline_inputs(picture))])
    batch = predictor.model.data_preprocessor(batch, False)
    return picture, batch['inputs'], batch['data_samples']
