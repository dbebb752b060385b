"""The one detector: every variant of the family is a choice of its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.error import URLError

import torch
from mmdet.models.detectors.base import BaseDetector
from mmdet.models.necks import ChannelMapper
from mmdet.structures import DetDataSample, SampleList
from mmengine.structures import InstanceData
from torch import Tensor

from .build import build_slot
from .checkpoints.layouts import DEFAULT, check_official
from .checkpoints.loading import accept_checkpoint
from .compilation import compile_decode
from .criterion.targets import Targets
from .transformer.embedding import Size, embed_maps
from .freezing import freeze_
from .heads.mask_head import map_channels
from .ops.boxes import cxcywh_to_xyxy
from .registry import MODELS
from .structures import Memory

Outputs = dict[str, Tensor]


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
            the neck reads the last.
        freeze: names of parts that are not trained, e.g. ``backbone`` or ``decoder.layers.0-3``.
        embed_dims: width of tokens and queries.
        dropout: of the transformer.
        layout: of the published checkpoints of this model, one of the official ones in
            ``checkpoints/layouts``.
        compile: arguments of ``torch.compile`` for what follows the neck, masks apart; None = eager.
            With ``cells``, the neck's maps are padded to multiples of so many cells at the coarsest
            level (twice as many at the one before, ...): few shapes occur, few graphs are compiled.
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
        shared = {
            'num_classes': num_classes,
            'embed_dims': embed_dims,
            'out_channels': embed_dims,
            'dropout': dropout,
            'num_layers': decoder['num_layers'],
        }
        self.num_classes = num_classes
        self.embed_dims = embed_dims
        self.layout = check_official(layout)
        self.backbone = build_slot(MODELS, backbone, 'backbone')
        self.neck = build_slot(MODELS, neck, 'neck', **shared)
        self.position = build_slot(MODELS, position, 'position', **shared)
        of_decoder = {'num_layers': shared.pop('num_layers')}  # the encoder has its own
        self.encoder = build_slot(MODELS, encoder, 'encoder', **shared)
        shared.update(of_decoder)
        self.queries = build_slot(MODELS, queries, 'queries', position=self.position, **shared)
        self.decoder = build_slot(MODELS, decoder, 'decoder', **shared)
        self.head = build_slot(MODELS, head, 'head', **shared)
        self.criterion = build_slot(MODELS, criterion, 'criterion', **shared)
        chosen = {**postprocess, **(test_cfg or {})}
        self.postprocess = build_slot(MODELS, chosen, 'postprocess', **shared)
        if mask_head is not None:
            shared['in_channels'] = map_channels(self.backbone)[:-1]
        self.mask_head = build_slot(MODELS, mask_head, 'mask_head', **shared)
        self.compiled, self.cells = compile_decode(
            type(self).decode, compile, mask_head is not None
        )
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
        try:
            super().init_weights()
        except (URLError, OSError) as error:
            source = (getattr(self.backbone, 'init_cfg', None) or {}).get('checkpoint')
            raise RuntimeError(
                f'the backbone needs its ImageNet weights, but {source} could not be read ({error}); '
                'if this machine is offline, copy the file here and set '
                'model.backbone.init_cfg.checkpoint=FILE, or model.backbone.init_cfg=None to start '
                'from random weights'
            ) from error

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> one (B, C, h, w) map per level."""
        return self.neck_maps(self.backbone(batch_inputs))

    def neck_maps(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The neck's maps; it reads the last of the backbone's, the mask head those before."""
        levels = levels if self.mask_head is None else levels[-len(self.neck.convs) :]
        if isinstance(self.neck, ChannelMapper):
            got, given = [c.in_channels for c in self.neck.convs], [x.shape[1] for x in levels]
            if got != given:
                raise ValueError(
                    f"neck.in_channels must be those of the backbone's maps, {given}, got {got}; "
                    'set neck.in_channels, or choose other maps by backbone.out_indices'
                )
        return self.neck(levels)

    def embed(self, maps: tuple[Tensor, ...], samples: SampleList | None, canvas: Size) -> Memory:
        """Join the levels into a memory, with padding masks and position codes.

        Args:
            maps: (B, C, h, w) per level.
            samples: their ``img_shape`` is the unpadded (height, width); None = no padding.
            canvas: (height, width) of the padded batch.

        Raises:
            ValueError: the maps do not have ``embed_dims`` channels.
        """
        if maps[0].shape[1] != self.embed_dims:
            raise ValueError(
                f'the neck must give embed_dims={self.embed_dims} channels, got {maps[0].shape[1]}; '
                'change neck.out_channels or model.embed_dims'
            )
        sizes = [tuple(s.img_shape[:2]) for s in samples] if samples else [canvas] * len(maps[0])
        return embed_maps(maps, self.position, sizes, canvas, self.cells)

    def transform(
        self,
        memory: Memory,
        aux: bool = True,
        levels: Sequence[Tensor] = (),
        all_masks: bool = True,
    ) -> Outputs:
        """Outputs from an embedded memory.

        Args:
            aux: give the predictions of all decoder layers and proposals, not of the last layer alone.
            levels: maps of the backbone, for the mask head; without them there are no masks.
            all_masks: False gives a function of query indices in the place of the masks.

        Returns:
            ``pred_logits (L, B, N, K)`` and ``pred_boxes (L, B, N, 4)``, cxcywh in 0..1;
            ``enc_logits (B, S, K)`` and ``enc_boxes (B, S, 4)`` where the encoder makes proposals;
            ``pred_masks (B, N, h, w)`` where there is a mask head.
        """
        decode = self.compiled or type(self).decode
        outputs, hidden, encoded = decode(self, memory, aux)
        if self.mask_head is not None and levels:
            make = self.mask_head if all_masks else self.mask_head.prepare
            outputs['pred_masks'] = make(hidden, memory, encoded, levels[:-1])
        return outputs

    def decode(self, memory: Memory, aux: bool) -> tuple[Outputs, Tensor, Memory]:
        """Outputs without masks, the content (B, N, C) last read, and the encoder's memory."""
        if self.encoder is not None:
            memory = self.encoder(memory)
        state, proposals = self.queries(memory, self.head)
        predictions, hidden = self.decoder(state, memory, self.head, aux=aux)
        outputs = {
            'pred_logits': torch.stack([p.logits for p in predictions]),
            'pred_boxes': torch.stack([p.box_logit for p in predictions]).sigmoid(),
        }
        if proposals is not None and aux:
            every = proposals()
            outputs['enc_logits'] = every.logits
            outputs['enc_boxes'] = every.box_logit.sigmoid()
        return outputs, hidden, memory

    def _forward(
        self, batch_inputs: Tensor, batch_data_samples: SampleList | None = None, **wanted: bool
    ) -> Outputs:
        levels = self.backbone(batch_inputs)
        canvas = (int(batch_inputs.shape[-2]), int(batch_inputs.shape[-1]))
        memory = self.embed(self.neck_maps(levels), batch_data_samples, canvas)
        return self.transform(memory, levels=levels, **wanted)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> Outputs:
        """Weighted losses, one key per layer and term; keys without ``loss`` are only logged."""
        # Masks of matched queries alone are trained: the criterion asks for them.
        outputs = self._forward(batch_inputs, batch_data_samples, all_masks=False)
        return self.criterion(outputs, Targets.from_samples(batch_data_samples, self.num_classes))

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Fill ``pred_instances``: boxes xyxy in pixels of the network's input, or with ``rescale``
        of the original image. With a mask head they have ``masks`` (M, H, W), bool, and there is a
        ``pred_panoptic_seg`` if the post-processing makes one."""
        outputs = self._forward(batch_inputs, batch_data_samples, aux=False)
        logits, boxes = outputs['pred_logits'][-1], outputs['pred_boxes'][-1]
        scores, labels, queries = self.postprocess(logits, boxes)
        boxes = cxcywh_to_xyxy(boxes.float().gather(1, queries[..., None].expand(-1, -1, 4)))
        results = []
        for i, sample in enumerate(batch_data_samples):
            height, width = sample.ori_shape[:2] if rescale else sample.img_shape[:2]
            scale = boxes.new_tensor((width, height, width, height))
            results.append(
                InstanceData(bboxes=boxes[i] * scale, scores=scores[i], labels=labels[i])
            )
        samples = self.add_pred_to_datasample(batch_data_samples, results)
        if 'pred_masks' in outputs:
            canvas = (int(batch_inputs.shape[-2]), int(batch_inputs.shape[-1]))
            for i, sample in enumerate(samples):
                self._segment(sample, outputs, i, queries[i], canvas, rescale)
        return samples

    def val_step(self, data: Mapping | Sequence) -> SampleList:
        """Detections for evaluators and pictures, which know the names of the classes only: those of
        the extra column of a sigmoid head (SMCA), which :meth:`predict` ranks too, are left out."""
        samples = super().val_step(data)
        if self.head.extra_column:
            for sample in samples:
                instances = sample.pred_instances
                sample.pred_instances = instances[instances.labels < self.num_classes]
        return samples

    def test_step(self, data: Mapping | Sequence) -> SampleList:
        return self.val_step(data)

    def _segment(
        self,
        sample: DetDataSample,
        outputs: Outputs,
        image: int,
        queries: Tensor,
        canvas: Size,
        rescale: bool,
    ) -> None:
        """Add what the masks give: instance masks, and panoptic segments where they are made."""
        inside = sample.img_shape[:2]
        size = sample.ori_shape[:2] if rescale else inside
        logits, masks = outputs['pred_logits'][-1, image], outputs['pred_masks'][image]
        sample.pred_instances.masks = self.mask_head.instances(masks[queries], canvas, inside, size)
        if hasattr(self.postprocess, 'panoptic'):
            segments = self.postprocess.panoptic(logits, masks, inside, size)
            sample.pred_panoptic_seg = segments
