#!/usr/bin/env python3
"""Convert a checkpoint from the layout of the official repositories to the plugin's, or back.

python tools/convert_checkpoint.py detr-r50-e632da11.pth detr_r50.pth --config configs/detr_r50.py
python tools/convert_checkpoint.py detr_r50.pth official.pth --config configs/detr_r50.py \\
    --to official

SRC holds weights (or gradients), bare or under `model` or `state_dict`. DST holds them under
`state_dict` or, `--to official`, under `model`. Nothing is computed: parameters are renamed, split
and joined. The number of classes is read off the checkpoint's class head.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from mmengine.config import Config
from torch import Tensor, nn

import mmdetr_plugin.command_line as command_line
from mmdetr_plugin.checkpoints import (
    from_official,
    is_official,
    official_names,
    read_checkpoint,
    to_official,
    unwrap,
    write_checkpoint,
)
from mmdetr_plugin.registry import MODELS

CLASS_HEAD = 'head.class_branches.0.bias'


def parse(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(
        description="Convert a checkpoint between the official layout and the plugin's"
    )
    parser.add_argument('src', help='checkpoint to read')
    parser.add_argument('dst', help='file to write')
    parser.add_argument('--config', required=True, help='config of the model')
    parser.add_argument(
        '--to', choices=('plugin', 'official'), default='plugin', help='layout of DST (plugin)'
    )
    command_line.add_cfg_options(parser)
    return parser, parser.parse_args(argv)


def build(cfg: Config, state: Mapping[str, Tensor], official: bool) -> nn.Module:
    """The config's model with as many classes as the class head in ``state`` has."""
    model = MODELS.build(cfg.model)
    names = official_names(model, model.layout)[CLASS_HEAD] if official else (CLASS_HEAD,)
    head = next((state[name] for name in names if name in state), None)
    if head is None:  # the conversion will tell what is missing
        return model
    more = len(head) - len(model.get_parameter(CLASS_HEAD))
    if more:
        cfg.model.num_classes += more
        print(f'the checkpoint has {cfg.model.num_classes} classes: model.num_classes is set to it')
        model = MODELS.build(cfg.model)
    return model


def convert(cfg: Config, state: Mapping[str, Tensor], to: str) -> dict[str, dict[str, Tensor]]:
    """What the converted file holds.

    Raises:
        ValueError: ``state`` has the layout it shall get, or is of another model.
    """
    official = is_official(state)
    if official == (to == 'official'):
        raise ValueError(f"SRC must not be in the layout '{to}' yet, but it is; nothing is to do")
    model = build(cfg, state, official)
    if official:
        return {'state_dict': from_official(state, model)}
    return {'model': to_official(state, model)}


def main(argv: list[str] | None = None) -> int:
    parser, args = parse(argv)
    cfg = command_line.read_config(parser, args.config, args.cfg_options)
    try:
        converted = convert(cfg, unwrap(read_checkpoint(args.src)), args.to)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f'{parser.prog}: {error}\n')
    write_checkpoint(converted, args.dst)
    ((key, weights),) = converted.items()
    print(f'{args.dst}: {len(weights)} tensors under {key!r}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
