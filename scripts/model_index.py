#!/usr/bin/env python3
"""Write model-index.yml, which mim shows and searches, from what the configs say of themselves.

The comment at the head of a config holds the figure that the authors published, as '42.0 AP' or
'43.4 PQ'; the name of a config begins with its family's. Run it after adding a config:
python scripts/model_index.py
"""

from __future__ import annotations

import argparse
import re
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
METRICS = {'AP': ('Object Detection', 'box AP'), 'PQ': ('Panoptic Segmentation', 'PQ')}
HEAD = """\
# What mim shows and searches. Written by scripts/model_index.py from the configs; do not edit.
# The metrics are those that the authors published for their code and weights.
"""


def family(config: Path) -> tuple[str, str]:
    for prefix, value in FAMILIES.items():
        if config.stem.startswith(prefix):
            return value
    raise ValueError(
        f'a config must be named after a family, got {config.name}; add its prefix to FAMILIES'
    )


def head_comment(config: Path) -> str:
    lines = config.read_text(encoding='utf-8').splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith('#')), len(lines))
    return ' '.join(line.lstrip('# ') for line in lines[:end])


def model(config: Path) -> str:
    text = (
        f'  - Name: {config.stem}\n'
        f'    In Collection: {family(config)[0]}\n'
        f'    Config: configs/{config.name}\n'
    )
    found = re.search(r'(\d+\.\d) (AP|PQ)\b', head_comment(config))
    if found:
        task, metric = METRICS[found.group(2)]
        result = f'{{Task: {task}, Dataset: COCO, Metrics: {{{metric}: {found.group(1)}}}}}'
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
