"""What a model finds in the validation images of its config, after every decoder layer."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from mmcv.ops import batched_nms
from mmdet.evaluation import CocoMetric
from mmdet.structures import DetDataSample, SampleList
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from pycocotools.coco import COCO

from ..datasets.coco import RepairedCoco
from ..datasets.completion import complete
from ..datasets.presence import check_presence
from ..detector import DETR
from ..evaluation.boxes import BoxEvaluation, Found
from ..heads.postprocess import to_instances
from ..inputs import channels_of, prepare
from ..registry import METRICS
from .predictor import Predictor

SUPPRESSION = {'type': 'nms', 'iou_threshold': 0.5}
"""Non-maximum suppression as in DETR's figure 4."""

Track = Callable[[Iterable], Iterable]


@dataclass(frozen=True)
class Validation:
    """The detections of all validation images.

    Attributes:
        truth: the annotations.
        classes: names in the order of the labels.
        paths: the file of each image, by its id in the annotations.
        layers: for each decoder layer, the first one first, the detections of every image; for
            detectors of mmdet the final ones alone.
    """

    truth: COCO
    classes: tuple[str, ...]
    paths: Mapping[int, str]
    layers: tuple[tuple[Found, ...], ...]
    _made: dict[tuple[int, bool], BoxEvaluation] = field(default_factory=dict, repr=False)

    def evaluation(self, layer: int = -1, suppressed: bool = False) -> BoxEvaluation:
        """COCO's evaluation of a layer, after non-maximum suppression if ``suppressed``."""
        number = range(len(self.layers))[layer]
        key = number, suppressed
        if key not in self._made:
            found: Sequence[Found] = self.layers[number]
            if suppressed:
                found = [without_doubles(image) for image in found]
            self._made[key] = BoxEvaluation(self.truth, self.classes, found)
        return self._made[key]


def validate(predictor: Predictor, track: Track = iter) -> Validation:
    """Run a loaded model on the validation images of its config.

    Args:
        track: wraps the batches, to show progress.

    Raises:
        FileNotFoundError: the annotations are missing.
        ValueError: the config has no validation data in COCO's format.
    """
    cfg = validation_config(predictor)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports what it does
        truth = RepairedCoco(annotation_file(cfg))
    paths: dict[int, str] = {}
    layers: list[list[Found]] = []
    for batch in track(val_loader(cfg)):
        samples, made = _layers(predictor.model, batch)
        layers = layers or [[] for _ in made]
        for layer, instances in zip(layers, made, strict=True):
            layer += map(_found, samples, instances)
        paths |= {sample.img_id: sample.img_path for sample in samples}
    return Validation(truth, predictor.classes, paths, tuple(map(tuple, layers)))


def validation_config(predictor: Predictor) -> Config:
    """The config of a loaded model, whose data are found and complete.

    Raises:
        FileNotFoundError: the annotations are missing.
    """
    cfg = copy.deepcopy(predictor.model.cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        check_presence(cfg, ('val',))
        complete(cfg)
    return cfg


def annotation_file(cfg: Config) -> str:
    """The file that the config's boxes are evaluated with.

    Raises:
        ValueError: it has none.
    """
    evaluators = cfg.get('val_evaluator') or []
    for one in evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]:
        kind = METRICS.get(one['type'])
        if kind is not None and issubclass(kind, CocoMetric) and one.get('ann_file'):
            return one['ann_file']
    raise ValueError(
        'val_evaluator of the config must be a CocoMetric with its ann_file, got '
        f'{evaluators}; add one: boxes are scored with its annotations'
    )


def val_loader(cfg: Config, **changes: Any) -> Iterable:
    """The validation images of a config in batches, loaded in this process.

    Args:
        changes: values that replace those of the loader.
    """
    loader = copy.deepcopy(cfg.val_dataloader)
    loader.update(num_workers=0, persistent_workers=False, **changes)
    scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet'))
    with scope, contextlib.redirect_stdout(io.StringIO()):
        return Runner.build_dataloader(loader, seed=0)


def without_doubles(image: Found) -> Found:
    """What non-maximum suppression within each class leaves."""
    if not len(image.scores):
        return image
    boxes, scores, labels = map(torch.from_numpy, (image.boxes, image.scores, image.labels))
    _, kept = batched_nms(boxes, scores, labels, dict(SUPPRESSION))
    return Found(
        image.image_id, *(x[kept.numpy()] for x in (image.boxes, image.scores, image.labels))
    )


@torch.no_grad()
def _layers(model: BaseModel, batch: Any) -> tuple[SampleList, list[list[InstanceData]]]:
    """The samples of a batch, and for each decoder layer what it finds in each image."""
    if not isinstance(model, DETR):
        samples = model.val_step(batch)
        return samples, [[sample.pred_instances for sample in samples]]
    data = model.data_preprocessor(prepare(batch, channels_of(model.backbone)), False)
    images, samples = data['inputs'], data['data_samples']
    layers = []
    for prediction in model.run(images, samples).layers:
        boxes = prediction.detected_boxes
        found = model.postprocess(prediction.ranked(), boxes)
        instances = to_instances(boxes, found, samples, rescale=True)
        kept = [each[each.labels < model.num_classes] for each in instances]
        layers.append([model.postprocess.select(each) for each in kept])
    return samples, layers


def _found(sample: DetDataSample, instances: InstanceData) -> Found:
    found = instances.cpu().numpy()
    return Found(
        sample.img_id,
        found.bboxes.astype(np.float32),
        found.scores.astype(np.float32),
        found.labels,
    )
