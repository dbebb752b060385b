#!/usr/bin/env python3
"""Convert a checkpoint of a model of the family from one project's layout to another's.

python tools/convert_checkpoint.py detr-r50-e632da11.pth detr_r50.pth --config configs/detr_r50.py
python tools/convert_checkpoint.py detr_r50.pth official.pth --config configs/detr_r50.py \\
    --to official
python tools/convert_checkpoint.py detr_r50.pth model.safetensors --config configs/detr_r50.py --to hf

The layout of SRC is recognised: that of the official repositories, mmdet 3.x, transformers, or ours.
SRC holds weights (or gradients), at the top level or under `model` or `state_dict`. DST holds them at
the top level (`--to hf` and *.safetensors), under `model` (`--to official`) or under `state_dict`.
Parameters are renamed, split and joined; no number changes. The numbers of classes and queries are
those of SRC. If SRC is a checkpoint of a training run and already has DST's layout, only its weights
are written (the averaged ones, if it has them).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import (
    read_checkpoint,
    to_hf,
    to_official,
    to_ours,
    write_checkpoint,
)
from mmdetr_plugin.checkpoints.adapt import count_classes
from mmdetr_plugin.checkpoints.class_names import names_beside, stated_names
from mmdetr_plugin.checkpoints.rows import row_table
from mmdetr_plugin.checkpoints.safe_tensors import SUFFIX
from mmdetr_plugin.detector import DETR
from mmdetr_plugin.registry import MODELS

WRAPPERS = {'ours': 'state_dict', 'official': 'model', 'hf': None}
"""The layouts that can be written, and the key under which their files hold the weights."""
OF_A_RUN = ('optimizer', 'message_hub', 'ema_state_dict', 'lr_scheduler')
"""What a checkpoint of a training run holds besides weights. Removing it counts as a conversion."""


def parse(argv: Sequence[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description='Convert a checkpoint from one layout to another')
    parser.add_argument('src', help='checkpoint to read, *.safetensors too')
    parser.add_argument('dst', help='file to write, *.safetensors too')
    parser.add_argument('--config', required=True, help='config of the model')
    parser.add_argument('--to', choices=WRAPPERS, default='ours', help='layout of DST (ours)')
    command_line.add_cfg_options(parser)
    return parser, parser.parse_args(argv)


def convert(checkpoint: Mapping, model: DETR, to: str) -> dict[str, Tensor]:
    """The weights in the layout ``to``; prints the layout, filled tensors and extra classes.

    Raises:
        ValueError: there is nothing to convert, or the weights belong to another model.
    """
    weights, layout, filled = to_ours(checkpoint, model)
    if layout == to and not any(key in checkpoint for key in OF_A_RUN):
        raise ValueError(
            f"SRC must not be in the layout '{to}' already, but it is; there is nothing to do"
        )
    print(f'layout of the checkpoint: {layout}')
    if filled:
        print(f'zeros, as files of this layout lack them: {", ".join(filled)}')
    given = count_classes(weights, row_table(model))
    if given not in (None, model.num_classes):
        print(
            f'the checkpoint has {given} classes, the config {model.num_classes}: '
            'all are kept; set model.num_classes to load the result as it is'
        )
    writers = {'ours': lambda state, model: state, 'official': to_official, 'hf': to_hf}
    return writers[to](weights, model)


def main(argv: Sequence[str] | None = None) -> int:
    parser, args = parse(argv)
    cfg = command_line.read_config(parser, args.config, args.cfg_options)
    try:
        checkpoint = read_checkpoint(args.src)
        weights = convert(checkpoint, MODELS.build(cfg.model), args.to)
        key = None if args.dst.endswith(SUFFIX) else WRAPPERS[args.to]
        content: dict[str, Any] = dict(weights) if key is None else {key: weights}
        classes = stated_names(checkpoint) or names_beside(args.src)
        if key == 'state_dict' and classes:
            content['meta'] = {'dataset_meta': {'classes': classes}}
        write_checkpoint(content, args.dst)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f'{parser.prog}: {error}\n')
    print(f'{args.dst}: {len(weights)} tensors' + (f' under {key!r}' if key else ''))
    return 0


if __name__ == '__main__':
    sys.exit(main())
