#!/usr/bin/env python3
"""What a config makes: the filled slots of its model, their parameters, schedule and batch.

    python tools/show_model.py configs/deformable_detr_r50.py
    python tools/show_model.py configs/finetune/detr_r50_12e.py --cfg-options model.num_classes=3

Settings are those that the config states, bases included; all others have the class's default or come
from the model, as `embed_dims` does. A slot in a layer counts the parameters of all layers. No weights
are loaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from torch import nn

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.report.slot_table import HEADER, count, slots, summary
from mmdetr_plugin.testing.counting import build_shapes


def table(model: nn.Module, cfg: Mapping[str, Any], width: int) -> list[str]:
    """Lines of at most ``width`` characters, if the names leave room for the settings."""
    rows = [HEADER, *(slot.cells() for slot in slots(cfg, [model]))]
    rows.append(('total', type(model).__name__, *(f'{n:,}' for n in count([model])), ''))
    columns = [max(len(row[i]) for row in rows) for i in range(4)]
    room = max(width - sum(columns) - 8, 30)
    lines = []
    for row in rows:
        name, kind, *numbers = (
            f'{cell:<{size}}' if i < 2 else f'{cell:>{size}}'
            for i, (cell, size) in enumerate(zip(row, columns))
        )
        first, *further = textwrap.wrap(row[4], room) or ['']
        lines.append('  '.join((name, kind, *numbers, first)).rstrip())
        lines += [' ' * (sum(columns) + 8) + line for line in further]
    return lines


def build(parser: argparse.ArgumentParser, cfg: Config) -> nn.Module:
    """The model without memory for its weights; ends the program if it cannot be built."""
    if 'num_classes' in cfg.model and cfg.model.num_classes is None:
        parser.error(
            'model.num_classes must be a number, got None: training counts the classes in the '
            'annotations, this tool reads none; add --cfg-options model.num_classes=N'
        )
    cfg.model.backbone.init_cfg = None
    try:
        return build_shapes(cfg.model)
    except (TypeError, ValueError) as error:
        parser.error(str(error))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='path of the config')
    command_line.add_cfg_options(parser)
    args = parser.parse_args(argv)
    cfg = command_line.read_config(parser, args.config, args.cfg_options)
    model = build(parser, cfg)
    width = shutil.get_terminal_size((140, 24)).columns
    print('\n'.join(table(model, cfg.model, width)), end='\n\n')
    facts = dict(summary(cfg, model))
    indent = max(map(len, facts)) + 2
    for what, value in facts.items():
        line = f'{what:<{indent}}{value}'
        print('\n'.join(textwrap.wrap(line, width, subsequent_indent=' ' * indent)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
