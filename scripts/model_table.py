#!/usr/bin/env python3
"""Write the README's table of models: sizes counted here, the papers' figures, parity.

Counting takes minutes, so the counts are kept in docs/counts.json:
python scripts/model_table.py              # count the configs that are new, write the table
python scripts/model_table.py --recount    # count every config again
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README, COUNTS = ROOT / 'README.md', ROOT / 'docs/counts.json'
SIZE, CLASSES = (800, 1128), 91
EIGHTY = ('rt_detr', 'rtdetrv2', 'd_fine', 'deim_d_fine', 'deimv2')
"""Beginnings of names of models that are published with 80 classes."""
BEGIN, END = '<!-- models: scripts/model_table.py -->', '<!-- end of models -->'

# Parameters in millions, FLOPs in billions, and the published COCO figure, where the authors give them.
# scripts/model_index.py reads the figures here too.
PAPER: dict[str, tuple[str, str, str]] = {
    'detr_r50': ('41', '86', '42.0'),
    'detr_dc5_r50': ('41', '187', '43.3'),
    'detr_r101': ('60', '152', '43.5'),
    'detr_dc5_r101': ('60', '253', '44.9'),
    'detr_dc5_plus_r50': ('', '', '36.2'),
    'detr_panoptic_r50': ('', '', 'PQ 43.4'),
    'detr_panoptic_dc5_r50': ('', '', 'PQ 44.6'),
    'detr_panoptic_r101': ('', '', 'PQ 45.1'),
    'deformable_detr_single_scale_r50': ('34', '78', '39.4'),
    'deformable_detr_single_scale_dc5_r50': ('34', '128', '41.5'),
    'deformable_detr_r50': ('40', '173', '44.5'),
    'deformable_detr_refine_r50': ('41', '173', '46.2'),
    'deformable_detr_two_stage_r50': ('41', '173', '46.9'),
    'conditional_detr_r50': ('44', '90', '41.0'),
    'conditional_detr_dc5_r50': ('44', '195', '43.7'),
    'conditional_detr_r101': ('63', '156', '42.8'),
    'conditional_detr_dc5_r101': ('63', '262', '45.0'),
    'smca_detr_r50': ('', '', '41.0'),
    'smca_detr_ms_r50': ('40', '152', '44.4'),
    'anchor_detr_r50': ('', '', '42.1'),
    'anchor_detr_dc5_r50': ('', '172', '44.3'),
    'anchor_detr_r101': ('', '', '43.5'),
    'anchor_detr_dc5_r101': ('', '', '45.1'),
    'anchor_detr_r50_mha': ('', '', ''),
    'dab_detr_r50': ('44', '94', '42.2'),
    'dab_detr_dc5_r50': ('', '', '44.5'),
    'dab_detr_r101': ('', '', '43.5'),
    'dab_detr_dc5_r101': ('', '', '45.8'),
    'dab_detr_r50_3pat': ('44', '100', '42.6'),
    'dab_detr_dc5_r50_fixxy': ('', '', ''),
    'dab_deformable_detr_r50': ('', '', '48.7'),
    'sam_detr_r50': ('58', '100', '39.8'),
    'sam_detr_dc5_r50': ('', '', '43.3'),
    'sam_detr_smca_r50': ('', '', '41.8'),
    'sam_detr_smca_dc5_r50': ('', '', '45.0'),
    'sam_detr_e12_r50': ('', '', '33.1'),
    'sam_detr_smca_e12_r50': ('', '', '36.0'),
    'sam_detr_ms_r50': ('', '', '46.1'),
    'sam_detr_ms_smca_r50': ('55', '203', '47.1'),
    'dn_dab_detr_r50': ('', '', '44.4'),
    'dn_dab_detr_dc5_r50': ('', '', '46.3'),
    'dn_dab_detr_r50_3pat': ('', '', ''),
    'dn_dab_deformable_detr_r50': ('', '', '49.5'),
    'dino_r50': ('', '', '49.0'),
    'dino_r50_24e': ('', '', '50.4'),
    'dino_r50_36e': ('', '', '50.9'),
    'dino_r50_mmdet': ('', '', ''),
    'dino_swin_l': ('', '', '56.8'),
    'ddq_detr_r50': ('', '', '51.4'),
    'dino_5scale_r50': ('', '', '49.4'),
    'dino_5scale_r50_24e': ('', '', '51.3'),
    'dino_5scale_r50_36e': ('', '', '51.2'),
    'h_deformable_detr_r50': ('', '', '48.7'),
    'h_deformable_detr_r50_36e': ('', '', '50.0'),
    'h_deformable_detr_one_stage_r50': ('', '', ''),
    'group_conditional_detr_r50': ('', '', ''),
    'group_dab_detr_r50': ('', '', ''),
    'group_dino_r50': ('', '', ''),
    'rt_detr_r18': ('20', '', '46.4'),
    'rt_detr_r34': ('31', '', '48.9'),
    'rt_detr_r50_m': ('36', '', '51.3'),
    'rt_detr_r50': ('42', '', '53.1'),
    'rt_detr_r101': ('76', '', '54.3'),
    'rtdetrv2_r18': ('20', '', '48.1'),
    'rtdetrv2_r18_discrete': ('20', '', '47.4'),
    'rtdetrv2_r34': ('31', '', '49.9'),
    'rtdetrv2_r50': ('42', '', '53.4'),
    'd_fine_n': ('4', '', '42.8'),
    'd_fine_s': ('10', '', '48.5'),
    'd_fine_m': ('19', '', '52.3'),
    'd_fine_l': ('31', '', '54.0'),
    'd_fine_x': ('62', '', '55.8'),
    'deim_d_fine_n': ('4', '', '43.0'),
    'deim_d_fine_s': ('10', '', '49.0'),
    'deim_d_fine_m': ('19', '', '52.7'),
    'deim_d_fine_l': ('31', '', '54.7'),
    'deim_d_fine_x': ('62', '', '56.5'),
    'deimv2_s': ('9.7', '', '50.9'),
    'lw_detr_tiny': ('12.1', '11.2', '42.6'),
    'lw_detr_small': ('14.6', '16.6', '48.0'),
    'lw_detr_medium': ('28.2', '42.8', '52.5'),
    'rf_detr_nano': ('30.5', '', '48.4'),
    'rf_detr_small': ('32.1', '', '53.0'),
    'rf_detr_medium': ('33.7', '', '54.7'),
    'rf_detr_base': ('', '', ''),
    'up_detr_r50': ('', '', '43.1'),
    'up_detr_pretrain_r50': ('', '', ''),
    'tsp_fcos_r50': ('', '', ''),
    'tsp_rcnn_r50': ('', '', ''),
    'tsp_rcnn_r101': ('', '', ''),
    'mix_conditional_smca_r50': ('', '', ''),
    'mix_anchor_deformable_r50': ('', '', ''),
    'mix_two_stage_conditional_r50': ('', '', ''),
    'mix_dn_sam_detr_r50': ('', '', ''),
    'mix_dn_conditional_detr_r50': ('', '', ''),
    'mix_dn_anchor_detr_r50': ('', '', ''),
    'mix_group_two_stage_r50': ('', '', ''),
}

NOT_COMPARED = {
    'dn_dab_detr_r50_3pat': 'not compared',
    'h_deformable_detr_one_stage_r50': 'not compared',
    'tsp_fcos_r50': 'matching and size',
    'tsp_rcnn_r50': 'matching and size',
    'tsp_rcnn_r101': 'matching and size',
    'dino_r50_mmdet': 'none: equal to mmdet',
    'dino_swin_l': 'not compared',
    'ddq_detr_r50': 'none: equal to mmdet',
    'group_dab_detr_r50': 'none: its own',
    'group_dino_r50': 'none: its own',
    'deimv2_s': 'none: equal to transformers, corrected',
    **{f'lw_detr_{size}': 'none: equal to transformers' for size in ('tiny', 'small', 'medium')},
    **{
        f'rf_detr_{size}': 'none: equal to transformers'
        for size in ('nano', 'small', 'medium', 'base')
    },
}
"""Why a model is not equal to an official one: nobody compared it, or there is no official code."""


def size_of(name: str) -> tuple[int, int]:
    """(height, width) of the image of which operations are counted: the square that a config tests
    with, or the published mean size where pictures keep their shape."""
    from mmengine.config import Config

    from mmdetr_plugin.testing.inputs import tested_size

    cfg = Config.fromfile(ROOT / 'configs' / f'{name}.py')
    height, width = tested_size(cfg) if cfg.get('test_dataloader') else SIZE
    return (height, width) if height == width else SIZE


def classes_of(name: str) -> int:
    return 80 if name.startswith(EIGHTY) else CLASSES


def update_counts(everything: bool) -> dict[str, dict[str, int]]:
    """The kept counts, with those of new configs added, or of all configs made again."""
    counts = {} if everything else json.loads(COUNTS.read_text())
    missing = [name for name in PAPER if name not in counts]
    if missing:
        from mmdetr_plugin.testing.counting import count  # slow to import

        for name in missing:
            found = count(ROOT / 'configs' / f'{name}.py', *size_of(name), classes_of(name))
            counts[name] = {'parameters': found.parameters, 'macs': found.macs}
        ordered = {name: counts[name] for name in PAPER}
        COUNTS.write_text(json.dumps(ordered, indent=1) + '\n')
    return counts


def parity(name: str) -> str:
    """Which official runs the model, whatever its number of epochs, reproduces in every array."""
    if name.startswith('mix_'):
        return 'none: its own'
    if name in NOT_COMPARED:
        return NOT_COMPARED[name]
    cases = ROOT / 'tests/parity/cases'
    model = re.sub(r'_\d+e$', '', name)
    kinds = {'': 'outputs', '_loss': 'losses, gradients'}
    held = [text for suffix, text in kinds.items() if (cases / f'{model}{suffix}').is_dir()]
    return ', '.join(held) or 'shape and names'


def table(counts: dict[str, dict[str, int]]) -> str:
    rows = [
        '| config | parameters, M (paper) | GMACs (paper) | published AP | '
        'equal to the official code in |',
        '|---|---|---|---|---|',
    ]
    for name, (parameters, flops, ap) in PAPER.items():
        found = counts[name]
        size = f'{found["parameters"] / 1e6:.3f}' + (f' ({parameters})' if parameters else '')
        macs = f'{found["macs"] / 1e9:.1f}' + (f' ({flops})' if flops else '')
        rows.append(f'| `{name}` | {size} | {macs} | {ap} | {parity(name)} |')
    return '\n'.join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--recount', action='store_true', help='count every config again')
    counts = update_counts(parser.parse_args(argv).recount)
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(f'{before}{BEGIN}\n{table(counts)}\n{END}{after}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
