#!/usr/bin/env python3
"""Write model-index.yml, which mim shows and searches.

The figures that the authors published are those of PAPER in scripts/model_table.py; the name of a
config begins with its family's. Run it after adding a config: python scripts/model_index.py
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / 'model-index.yml'

# Longer prefixes first.
FAMILIES = {
    'digits': ('Digits', ''),
    'd_fine': ('D-FINE', '2410.13842'),
    'deim_d_fine': ('DEIM', '2412.04234'),
    'deimv2': ('DEIMv2', '2509.20787'),
    'ddq_detr': ('DDQ', '2303.12776'),
    'dino': ('DINO', '2203.03605'),
    'dn_dab': ('DN-DETR', '2203.01305'),
    'group': ('Group DETR', '2207.13085'),
    'lw_detr': ('LW-DETR', '2406.03459'),
    'rf_detr': ('RF-DETR', '2511.09554'),
    'rt_detr': ('RT-DETR', '2304.08069'),
    'rtdetrv2': ('RT-DETRv2', '2407.17140'),
    'up_detr': ('UP-DETR', '2011.09094'),
    'tsp': ('TSP', '2011.10881'),
    'h_deformable_detr': ('H-DETR', '2207.13080'),
    'anchor_detr': ('Anchor DETR', '2109.07107'),
    'conditional_detr': ('Conditional DETR', '2108.06152'),
    'dab_deformable_detr': ('DAB-DETR', '2201.12329'),
    'dab_detr': ('DAB-DETR', '2201.12329'),
    'deformable_detr': ('Deformable DETR', '2010.04159'),
    'sam_detr': ('SAM-DETR', '2203.06883'),
    'smca_detr': ('SMCA', '2101.07448'),
    'detr': ('DETR', '2005.12872'),
    'mix': ('Mixes', ''),
}
PAPER: dict[str, tuple[str, str, str]] = runpy.run_path(str(ROOT / 'scripts/model_table.py'))[
    'PAPER'
]
METRICS = {
    'AP': ('Object Detection', 'box AP of the authors'),
    'PQ': ('Panoptic Segmentation', 'PQ of the authors'),
}
"""Task and name of a figure. mim shows the names, so they say who measured."""

HEAD = """\
# What mim shows and searches. Written by scripts/model_index.py; do not edit.
# The metrics are those that the authors published for their code and weights.
"""


def family(config: Path) -> tuple[str, str]:
    for prefix, value in FAMILIES.items():
        if config.stem.startswith(prefix):
            return value
    raise ValueError(
        f'a config must be named after a family, got {config.name}; add its prefix to FAMILIES'
    )


def model(config: Path) -> str:
    text = (
        f'  - Name: {config.stem}\n'
        f'    In Collection: {family(config)[0]}\n'
        f'    Config: configs/{config.name}\n'
    )
    published = PAPER[config.stem][2] if config.stem in PAPER else ''
    if published:
        task, metric = METRICS['PQ' if published.startswith('PQ') else 'AP']
        figure = published.removeprefix('PQ ')
        result = f'{{Task: {task}, Dataset: COCO, Metrics: {{{metric}: {figure}}}}}'
        text += f'    Results:\n      - {result}\n'
    return text


def collection(name: str, paper: str) -> str:
    digits = 'handwritten digits on photographs (tools/make_digits.py)'
    data = digits if name == 'Digits' else 'COCO'
    text = f'  - Name: {name}\n    Metadata: {{Training Data: {data}}}\n'
    return text + (f'    Paper: https://arxiv.org/abs/{paper}\n' if paper else '')


def render() -> str:
    configs = sorted((ROOT / 'configs').glob('*.py'))
    used = {family(config) for config in configs}
    collections = ''.join(collection(*value) for value in sorted(used))
    models = ''.join(model(config) for config in configs)
    return f'{HEAD}Collections:\n{collections}\nModels:\n{models}'


def main(argv: Sequence[str] | None = None) -> int:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(argv)
    INDEX.write_text(render(), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())
