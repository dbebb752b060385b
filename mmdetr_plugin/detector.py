"""The one detector: every variant of the family is a choice of its slots."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmdet.structures import SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config, ConfigDict
from torch import Tensor

from .datasets.image_loading import checked_step
from .datasets.image_size import set_image_size
from .heads import Features
from .heads.postprocess import check_finite, to_instances
from .inputs import channels_of, check_annotated, check_batch, prepare, unpadded
from .ops.precision import in_own_precision
from .queries.patches import stack_patches
from .registry import MODELS
from .slots import SlottedDetector
from .structures import Memory, Outputs, Size, Targets, map_size
from .transformer.embedding import Sizes, embed_maps


@MODELS.register_module()
class DETR(SlottedDetector):
    """images -> backbone -> neck -> memory -> encoder -> queries -> decoder and head -> outputs.

    Args: the slots, see :class:`~mmdetr_plugin.slots.SlottedDetector`.
    """

    @in_own_precision
    def run(
        self,
        images: Tensor,
        samples: SampleList | None = None,
        targets: Targets | None = None,
        aux: bool = True,
        sizes: Tensor | None = None,
    ) -> Outputs:
        """Everything that the model predicts for a batch.

        Args:
            images: (B, 3, H, W), normalised and padded.
            samples: their ``img_shape`` is the unpadded (height, width); None = no padding.
            targets: objects, when losses are computed. Queries that only serve training are made from
                them.
            aux: predict after all decoder layers, and make the encoder's proposals; else predict after
                the last layer alone.
            sizes: (B, 2), the unpadded heights and widths in the place of ``samples``, as an exported
                graph needs them.
        """
        check_batch(images, self.backbone)
        maps = self.backbone(images)
        embedded = self.embed(self.neck(maps[self.unread :]), samples, map_size(images), sizes)
        memory = self.compiled.encode(self, embedded)
        state, propose = self.queries(memory, self.head, targets)
        predictions = self.compiled.decode(self, state, memory, aux)
        layers = tuple(p for p in predictions if not p.name)
        masks = None
        if self.mask_head is not None:
            masks = self.mask_head(layers, Features(tuple(maps[: self.unread]), embedded, memory))
        return Outputs(
            layers,
            others=tuple(p for p in predictions if p.name),
            proposals=propose() if propose is not None and aux else None,
            masks=masks,
            branches=state.branches,
        )

    def embed(
        self,
        maps: Sequence[Tensor],
        samples: SampleList | None,
        canvas: Size,
        sizes: Sizes | None = None,
    ) -> Memory:
        """Join the neck's maps into a memory, see :func:`embed_maps`.

        Args:
            maps: (B, C, h, w) per level.
            samples: as for :meth:`run`; they may have ``query_patches`` (P, 3, h, w) each, pictures of
                what to look for, normalised as the images are.
            canvas: (height, width) of the padded batch.
            sizes: see :meth:`run`.
        """
        if samples:
            sizes = [tuple(s.img_shape[:2]) for s in samples]
        read = self.encoder is not None or self.decoder.reads_memory
        memory = embed_maps(maps, self.position, sizes, canvas, self.compiled.cells, read)
        return memory if not samples else replace(memory, patches=stack_patches(samples))

    @property
    def cfg(self) -> Config:
        """A copy of the whole config, which mmdet's ``init_detector`` sets.

        ``inference_detector`` changes what it gets. Images are loaded with the checks of
        :class:`~mmdetr_plugin.datasets.image_loading.LoadImage`, and have its ``image_size``.
        """
        cfg = copy.deepcopy(self._cfg)
        if cfg.get('test_dataloader') is not None:
            set_image_size(cfg)
            pipeline = get_test_pipeline_cfg(cfg)
            pipeline[:] = [
                ConfigDict(made) if isinstance(made, dict) else made
                for made in map(checked_step, pipeline)
            ]
        return cfg

    @cfg.setter
    def cfg(self, cfg: Config) -> None:
        self._cfg = cfg

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, h, w) map of the neck per level."""
        return self.neck(self.backbone(batch_inputs)[self.unread :])

    # ---- the modes of an mmdet detector ----------------------------------------------------------

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None
    ) -> dict[str, Tensor]:
        return self.run(batch_inputs, batch_data_samples).tensors()

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Weighted losses, one key per layer and term; keys without ``loss`` are only logged.

        Raises:
            ValueError: the samples are missing, their number is not that of the images, or they have no
                ``gt_instances``.
        """
        check_batch(batch_inputs, self.backbone)
        check_annotated(batch_data_samples, len(batch_inputs))
        targets = Targets.from_samples(batch_data_samples, self.num_classes)
        outputs = self.run(batch_inputs, batch_data_samples, targets)
        if self.teacher is not None:
            outputs = self.teacher.teach(outputs, batch_inputs, batch_data_samples)
        return self.criterion(outputs, targets)

    @in_own_precision
    def predict(
        self,
        batch_inputs: Tensor,
        batch_data_samples: SampleList | None = None,
        rescale: bool = True,
    ) -> SampleList:
        """Fill ``pred_instances`` of the samples.

        Boxes are xyxy in pixels of the original image, or without ``rescale`` of the network's input.
        With a mask head, instances have ``masks`` (M, H, W), bool, and a sample has a
        ``pred_panoptic_seg`` if the post-processing makes one. Without samples, the images have no
        padding and are in their original size.
        """
        check_batch(batch_inputs, self.backbone)
        batch_data_samples = batch_data_samples or unpadded(batch_inputs)
        outputs = self.run(batch_inputs, batch_data_samples, aux=False)
        prediction = outputs.layers[-1]
        boxes = prediction.detected_boxes
        found = self.postprocess(prediction.ranked(), boxes)
        instances = to_instances(boxes, found, batch_data_samples, rescale)
        samples = self.add_pred_to_datasample(batch_data_samples, instances)
        if outputs.masks is not None:
            self.mask_head.segment(
                samples,
                prediction,
                outputs.masks,
                found,
                self.postprocess,
                map_size(batch_inputs),
                rescale,
            )
        for sample in samples:
            sample.pred_instances = self.postprocess.select(sample.pred_instances)
        return samples

    def val_step(self, data: Mapping | Sequence) -> SampleList:
        """Detections for evaluators and visualisers, which know only the names of the classes.

        Where the head has more columns than classes (SMCA), :meth:`predict` ranks these too; here they
        are left out.

        Raises:
            ValueError: an image cannot be one, see :func:`~mmdetr_plugin.inputs.prepare`.
            FloatingPointError: predictions of an image are not finite.
        """
        samples = super().val_step(prepare(data, channels_of(self.backbone)))
        check_finite(samples)
        for sample in samples:
            instances = sample.pred_instances
            sample.pred_instances = instances[instances.labels < self.num_classes]
        return samples

    def test_step(self, data: Mapping | Sequence) -> SampleList:
        return self.val_step(data)
