"""The slots of the detector: how it is built from its config, frozen and initialised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.detectors.base import BaseDetector

from .arguments import Placed, checked
from .backbones.channels import map_channels, split_channels
from .build import build_slot, stated_layers
from .checkpoints.layouts import DEFAULT, check_official
from .checkpoints.loading import accept_checkpoint
from .checkpoints.pretrained import missing_weights_explained
from .compilation import compile_transformer
from .freezing import freeze_, one_list
from .heads import Head, MaskHead, PostProcess
from .ops.folding import fold_norms_, unfold_replaced_
from .ops.fused_blocks import fuse_blocks_
from .queries import QuerySource
from .registry import MODELS
from .teacher import Teacher


class SlottedDetector(BaseDetector):
    """A detector whose parts are built from configs; :class:`DETR` says what is computed with them.

    Args:
        num_classes: number of classes, stated here and nowhere else.
        backbone, neck: mmdet parts; the neck's maps have ``embed_dims`` channels if encoder or decoder
            read them.
        position: position codes of the feature maps.
        queries: content, position and reference of the object queries.
        decoder: layers, and the position of the queries in each of them.
        head: classes and boxes of the queries, and their next reference.
        criterion: matching and losses.
        postprocess: predictions -> detections; ``test_cfg`` overrides its arguments.
        encoder: layers that rewrite the tokens of the image; None = no encoder.
        mask_head: masks of the queries, from the maps of the backbone that the neck does not read: it
            reads the last ones, as many as its ``in_channels`` name.
        branches: configs of wrappers that add queries for training, e.g. ``DenoisingQueries``. Each
            wraps ``queries`` and the branches before it.
        teacher: ``config`` and ``checkpoint`` of a trained model, whose outputs the distillation losses
            of the criterion read (:mod:`~mmdetr_plugin.criterion.distillation`); None = there is none.
        num_levels: number of feature levels, which is the number of the neck's maps.
        frozen_parts: names of parts that are not trained, e.g. ``backbone`` or
            ``decoder.layers.0-3``.
        freeze: the former name of ``frozen_parts``, which configs of MMEngine cannot read by attribute:
            their dictionaries have a method of that name.
        embed_dims: width of tokens and queries.
        encoder_dims: width of the tokens in the neck and in an encoder that can change it, such as
            ``HybridEncoder``; None = ``embed_dims``.
        dropout: of the transformer.
        layout: official layout of the published checkpoints of this model, one of those in
            ``checkpoints/layouts``.
        compile: arguments of ``torch.compile`` for encoder and decoder; None = not compiled. ``cells``
            pads the neck's maps to multiples of that many cells at the coarsest level, of twice as many
            at the next finer one, and so on: fewer shapes occur, so fewer graphs are compiled.
        channels_last: whether the convolutions use this memory format.

    Raises:
        ValueError: a slot cannot be filled; the message names the slot and the remedy.
    """

    @checked('model', skip=('num_classes',))
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
        teacher: Mapping | None = None,
        num_levels: int = 1,
        frozen_parts: str | Sequence[str] = (),
        freeze: str | Sequence[str] = (),
        embed_dims: int = 256,
        encoder_dims: int | None = None,
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
        stated: dict[str, Any] = {
            'num_classes': num_classes,
            'embed_dims': embed_dims,
            'dropout': dropout,
            'num_levels': num_levels,
        }

        def build(cfg: Any, slot: str, **more: Any) -> Any:
            return build_slot(MODELS, cfg, slot, **stated, **more)

        wide = encoder_dims or embed_dims
        self.backbone = build(backbone, 'backbone')
        channels = map_channels(self.backbone)
        if channels is not None:
            stated['feature_dims'] = channels[-1]
        read, self.unread = split_channels(neck, channels)
        self.neck = build(neck, 'neck', in_channels=read, out_channels=wide, num_outs=num_levels)
        stated['map_dims'] = getattr(self.neck, 'out_channels', embed_dims)
        self.position = build_slot(MODELS, position, 'position', **{**stated, 'embed_dims': wide})
        self.encoder = build_slot(
            MODELS, encoder, 'encoder', **{**stated, 'embed_dims': wide, 'out_dims': embed_dims}
        )
        check_widths(self.encoder, wide, embed_dims)
        stated['num_layers'] = stated_layers(decoder)
        if branches:
            queries = Placed(queries, 'model.queries')
        for i, branch in enumerate(branches):
            queries = Placed({**branch, 'queries': queries}, f'model.branches.{i}')
        made = {'position': self.position, 'backbone': self.backbone}
        self.queries = build(queries, 'queries', contract=QuerySource, **made)
        self.decoder = build(decoder, 'decoder')
        self.head = build(head, 'head', contract=Head)
        self.criterion = build(criterion, 'criterion')
        chosen = {**postprocess, **test_cfg} if test_cfg else postprocess
        self.postprocess = build(chosen, 'postprocess', contract=PostProcess)
        finer = None if channels is None else channels[: self.unread]
        self.mask_head = build(mask_head, 'mask_head', contract=MaskHead, in_channels=finer)
        self.compiled = compile_transformer(compile, mask_head is not None)
        self.teacher = None if teacher is None else Teacher(num_classes=num_classes, **teacher)
        for part in filter(None, (self.neck, self.encoder)):
            fold_norms_(part)
        for part in filter(None, (self.backbone, self.neck, self.encoder)):
            fuse_blocks_(part)
            if channels_last:
                part.to(memory_format=torch.channels_last)
        self.frozen_parts = one_list(frozen_parts, freeze)
        freeze_(self, self.frozen_parts)
        self.register_load_state_dict_pre_hook(accept_checkpoint)

    def train(self, mode: bool = True) -> SlottedDetector:
        """As any module does, but frozen parts stay in evaluation mode."""
        super().train(mode)
        unfold_replaced_(self)
        freeze_(self, self.frozen_parts)
        return self

    def init_weights(self) -> None:
        """Load the weights that the parts name in ``init_cfg``, such as ImageNet's of the backbone.

        Raises:
            RuntimeError: they cannot be read.
        """
        with missing_weights_explained(self.backbone):
            super().init_weights()


def check_widths(encoder: torch.nn.Module | None, encoder_dims: int, embed_dims: int) -> None:
    """Check that what leaves the encoder is as wide as the queries.

    Raises:
        ValueError: it is not.
    """
    if getattr(encoder, 'out_dims', encoder_dims) != embed_dims:
        raise ValueError(
            f'model.encoder_dims={encoder_dims} needs an encoder that changes the width to '
            f'embed_dims={embed_dims}, got {type(encoder).__name__}; choose HybridEncoder, or leave '
            'out encoder_dims'
        )
