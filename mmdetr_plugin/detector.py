"""The one detector: every variant of the family is a choice of its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.structures import SampleList
from torch import Tensor

from .backbones.channels import map_channels, split_channels
from .build import build_slot, stated_layers
from .checkpoints.layouts import DEFAULT, check_official
from .checkpoints.loading import accept_checkpoint
from .checkpoints.pretrained import missing_weights_explained
from .compilation import compile_transformer
from .freezing import freeze_
from .heads import Features, Head, MaskHead, PostProcess
from .heads.postprocess import to_instances
from .queries import QuerySource
from .registry import MODELS
from .structures import Memory, Outputs, Prediction, State, Targets
from .transformer.embedding import Size, embed_maps


@MODELS.register_module()
class DETR(BaseDetector):
    """images -> backbone -> neck -> memory -> encoder -> queries -> decoder -> outputs.

    Args:
        num_classes: number of classes, stated here and nowhere else.
        backbone, neck: mmdet parts; the neck's maps have ``embed_dims`` channels.
        position: slot S2, codes of the feature maps.
        encoder: slot S3; None reads the neck's maps as they are.
        queries: slots S4 and S5.
        decoder: slots S7, S8, S9.
        head: slot S10.
        criterion: slot S11.
        postprocess: slot S12; ``test_cfg`` overrides its arguments.
        mask_head: slot S12, masks of the queries; the backbone then gives finer maps too, of which
            the neck reads the last, as many as its ``in_channels`` state.
        branches: configs of what adds queries for training to ``queries``, e.g. ``DenoisingQueries``;
            each wraps the source and the branches before it.
        num_levels: number of feature levels, of the neck's maps.
        freeze: names of parts that are not trained, e.g. ``backbone`` or ``decoder.layers.0-3``.
        embed_dims: width of tokens and queries.
        dropout: of the transformer.
        layout: of the published checkpoints of this model, one of the official ones in
            ``checkpoints/layouts``.
        compile: arguments of ``torch.compile`` for encoder and decoder; None = eager. With ``cells``,
            the neck's maps are padded to multiples of that many cells at the coarsest level (twice as
            many at the one before, ...): few shapes occur, few graphs are compiled.
        channels_last: memory format of backbone and neck, else torch's default.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: Mapping,
        neck: Mapping,
        position: Mapping,
        queries: Mapping,
        decoder: Mapping,
        head: Mapping,
        criterion: Mapping,
        postprocess: Mapping,
        encoder: Mapping | None = None,
        mask_head: Mapping | None = None,
        branches: Sequence[Mapping] = (),
        num_levels: int = 1,
        freeze: Sequence[str] = (),
        embed_dims: int = 256,
        dropout: float = 0.1,
        layout: str = DEFAULT,
        compile: Mapping | None = None,  # noqa: A002 - as in MMEngine's configs
        channels_last: bool = True,
        data_preprocessor: Mapping | None = None,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        if type(num_classes) is not int or num_classes < 1:
            raise ValueError(
                f'model.num_classes must be a positive integer, got {num_classes!r}; state the number '
                'of classes of the data set; where a config leaves None, tools/train.py counts them, '
                'and the config that it writes to the work dir states them'
            )
        # Built here, so that unprefixed mmdet types resolve without a default scope too.
        preprocessor = build_slot(MODELS, data_preprocessor, 'data_preprocessor')
        super().__init__(data_preprocessor=preprocessor, init_cfg=init_cfg)
        self.num_classes = num_classes
        self.embed_dims = embed_dims
        self.layout = check_official(layout)
        stated = {
            'num_classes': num_classes,
            'embed_dims': embed_dims,
            'dropout': dropout,
            'num_levels': num_levels,
        }

        def build(cfg: Any, slot: str, **more: Any) -> Any:
            return build_slot(MODELS, cfg, slot, **stated, **more)

        self.backbone = build(backbone, 'backbone')
        channels = map_channels(self.backbone)
        read, self.unread = split_channels(neck, channels)
        self.neck = build(
            neck, 'neck', in_channels=read, out_channels=embed_dims, num_outs=num_levels
        )
        self.position = build(position, 'position')
        self.encoder = build(encoder, 'encoder')
        stated['num_layers'] = stated_layers(decoder)
        for branch in branches:
            queries = {**branch, 'queries': queries}
        self.queries = build(queries, 'queries', contract=QuerySource, position=self.position)
        self.decoder = build(decoder, 'decoder')
        self.head = build(head, 'head', contract=Head)
        self.criterion = build(criterion, 'criterion')
        chosen = {**postprocess, **(test_cfg or {})}
        self.postprocess = build(chosen, 'postprocess', contract=PostProcess)
        finer = None if channels is None else channels[: self.unread]
        self.mask_head = build(mask_head, 'mask_head', contract=MaskHead, in_channels=finer)
        self.compiled = compile_transformer(type(self), compile, mask_head is not None)
        if channels_last:
            self.backbone.to(memory_format=torch.channels_last)
            self.neck.to(memory_format=torch.channels_last)
        self.freeze = (freeze,) if isinstance(freeze, str) else tuple(freeze)
        freeze_(self, self.freeze)
        self.register_load_state_dict_pre_hook(accept_checkpoint)

    def train(self, mode: bool = True) -> DETR:
        super().train(mode)
        freeze_(self, self.freeze)
        return self

    def init_weights(self) -> None:
        """Load what ``init_cfg`` of the parts names, ImageNet weights of the backbone above all."""
        with missing_weights_explained(self.backbone):
            super().init_weights()

    # ---- the forward pass ------------------------------------------------------------------------

    def run(
        self,
        images: Tensor,
        samples: SampleList | None = None,
        targets: Targets | None = None,
        aux: bool = True,
    ) -> Outputs:
        """Everything that the model predicts for a batch.

        Args:
            images: (B, 3, H, W), normalised and padded.
            samples: their ``img_shape`` is the unpadded (height, width); None = no padding.
            targets: objects, when losses are computed: the queries that only serve training are made
                from them.
            aux: predict after all decoder layers and make the proposals; else after the last alone.
        """
        levels = self.backbone(images)
        canvas = (int(images.shape[-2]), int(images.shape[-1]))
        embedded = self.embed(self.neck(levels[self.unread :]), samples, canvas)
        return self.transform(embedded, levels[: self.unread], targets, aux)

    def transform(
        self,
        embedded: Memory,
        levels: Sequence[Tensor] = (),
        targets: Targets | None = None,
        aux: bool = True,
    ) -> Outputs:
        """As :meth:`run`, from what the encoder reads; masks need the ``levels`` of the backbone that
        the neck does not read."""
        memory = self.compiled.encode(self, embedded)
        state, propose = self.queries(memory, self.head, targets)
        predictions = self.compiled.decode(self, state, memory, aux)
        layers = tuple(p for p in predictions if not p.name)
        masks = None
        if self.mask_head is not None and levels:
            masks = self.mask_head(layers, Features(tuple(levels), embedded, memory))
        return Outputs(
            layers,
            others=tuple(p for p in predictions if p.name),
            proposals=propose() if propose is not None and aux else None,
            masks=masks,
            branches=state.branches,
        )

    def encode(self, memory: Memory) -> Memory:
        return memory if self.encoder is None else self.encoder(memory)

    def decode(self, state: State, memory: Memory, aux: bool) -> list[Prediction]:
        return self.decoder(state, memory, self.head, aux=aux)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, h, w) map per level."""
        return self.neck(self.backbone(batch_inputs)[self.unread :])

    def embed(self, maps: Sequence[Tensor], samples: SampleList | None, canvas: Size) -> Memory:
        """Join the levels into a memory, see :func:`embed_maps`; without samples nothing is padding."""
        sizes = [tuple(s.img_shape[:2]) for s in samples] if samples else [canvas] * len(maps[0])
        return embed_maps(maps, self.position, sizes, canvas, self.compiled.cells)

    # ---- the modes of a detector -----------------------------------------------------------------

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None
    ) -> dict[str, Tensor]:
        return self.run(batch_inputs, batch_data_samples).tensors()

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Weighted losses, one key per layer and term; keys without ``loss`` are only logged."""
        targets = Targets.from_samples(batch_data_samples, self.num_classes)
        return self.criterion(self.run(batch_inputs, batch_data_samples, targets), targets)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Fill ``pred_instances``: boxes xyxy in pixels of the network's input, or with ``rescale``
        of the original image. With a mask head they have ``masks`` (M, H, W), bool, and there is a
        ``pred_panoptic_seg`` if the post-processing makes one."""
        outputs = self.run(batch_inputs, batch_data_samples, aux=False)
        prediction = outputs.layers[-1]
        found = self.postprocess(prediction.logits, prediction.boxes)
        instances = to_instances(prediction.boxes, found, batch_data_samples, rescale)
        samples = self.add_pred_to_datasample(batch_data_samples, instances)
        if outputs.masks is not None:
            canvas = (int(batch_inputs.shape[-2]), int(batch_inputs.shape[-1]))
            self.mask_head.segment(
                samples, prediction, outputs.masks, found, self.postprocess, canvas, rescale
            )
        return samples

    def val_step(self, data: Mapping | Sequence) -> SampleList:
        """Detections for evaluators and pictures, which know the names of the classes only: columns
        of the head beyond those, which :meth:`predict` ranks too (SMCA), are left out."""
        samples = super().val_step(data)
        for sample in samples:
            instances = sample.pred_instances
            sample.pred_instances = instances[instances.labels < self.num_classes]
        return samples

    def test_step(self, data: Mapping | Sequence) -> SampleList:
        return self.val_step(data)
