#!/usr/bin/env python3
"""Find faults of a COCO data set before training.

    python tools/check_dataset.py CONFIG
    python tools/check_dataset.py --ann train.json --images train/ --num-queries 100

Compares the number of objects per image with the number of queries, lists faults of boxes, ids,
categories and images, and draws the sizes of the boxes. The exit code is 1 if there is an error:
a fault on which training would fail or learn something wrong.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmdetr_plugin.datasets.agreement import check_classes, check_num_classes
from mmdetr_plugin.datasets.annotations import category_names, read_repaired
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.faults import Contents, Fault, read_contents
from mmdetr_plugin.datasets.image_faults import image_faults
from mmdetr_plugin.datasets.presence import annotated_datasets, check_presence
from mmdetr_plugin.datasets.validation import check_contents
from mmdetr_plugin.engine.command_line import add_cfg_options, read_config
from mmdetr_plugin.registry import DATASETS, MODELS
from mmdetr_plugin.visualization import draw_sizes

SHOWN = 3  # examples printed for a fault
CLASSES = 10  # classes printed with their number of objects
AP_BOXES = 100  # boxes per image that COCO's AP uses


@dataclass(frozen=True)
class Subject:
    """A data set to check."""

    name: str
    annotations: Path
    images: Path
    classes: tuple[str, ...] | None = None
    model: Mapping = field(default_factory=dict)
    annotated: bool = True
    dataset: Mapping = field(default_factory=dict)
    training: bool = False


def subjects_of(cfg: Config, splits: list[str]) -> Iterator[Subject]:
    """The COCO data sets of a config's loaders."""
    check_presence(cfg, tuple(splits))
    complete(cfg)
    for split in splits:
        for key, dataset in annotated_datasets(cfg, split):
            data = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
            if not isinstance(data, CocoDataset):
                raise ValueError(
                    f'{key} must be a CocoDataset, got {type(data).__name__}; only COCO files can '
                    'be checked: convert the annotations, or choose other --splits'
                )
            own = type(data).load_data_list is CocoDataset.load_data_list
            yield Subject(
                key,
                Path(data.ann_file),
                Path(data.data_prefix.get('img') or ''),
                data.metainfo['classes'] if own else None,
                cfg.get('model') or {},
                annotated=split != 'test',
                dataset=dataset,
                training=split == 'train',
            )


def number_of_queries(model: Mapping) -> int | None:
    """Number of boxes that a model predicts for an image; None for a model without queries."""
    queries = model.get('queries')
    if not queries:
        return model.get('num_queries')
    parameters = inspect.signature(MODELS.get(queries['type'])).parameters
    default = parameters['num_patterns'].default if 'num_patterns' in parameters else 0
    return queries['num_queries'] * (queries.get('num_patterns', default) or 1)


def query_faults(contents: Contents, num_queries: int | None) -> list[Fault]:
    """Warnings about images with more objects than queries, or than the evaluation uses."""
    faults = []
    p99, most = contents.percentile(99), max(contents.counts, default=0)
    if num_queries and most > num_queries:
        wanted = -(-max(most, 3 * p99 // 2) // 50) * 50  # with slack, a multiple of 50
        above = [f'{count} objects' for count in contents.counts if count > num_queries]
        what = f'images with more objects than the {num_queries} queries'
        if p99 > num_queries:
            what += f' (99 % of the images have up to {p99})'
        advice = (
            f'the other objects cannot be learnt or found: set model.queries.num_queries={wanted} '
            '(divided by num_patterns, if the model has them) and model.postprocess.max_per_img at '
            'least as high'
        )
        faults.append(Fault(what, sorted(above, reverse=True), advice, error=False))
    if most > AP_BOXES:
        above = [f'{count} objects' for count in contents.counts if count > AP_BOXES]
        advice = f"COCO's AP uses only the best {AP_BOXES} boxes of an image; tile large images"
        faults.append(Fault(f'images with over {AP_BOXES} objects', above, advice, error=False))
    return faults


def inspect_subject(subject: Subject, args: argparse.Namespace) -> bool:
    """Print the tables of one data set and draw its picture; return whether it has no errors."""
    print(f'\n{subject.name}: {subject.annotations}')
    try:
        coco, repairs = read_repaired(subject.annotations, subject.annotated)
    except ValueError as error:
        print_faults([Fault('not a COCO file', [error], 'nothing else can be checked')])
        return False
    contents = read_contents(coco, subject.classes)
    faults = [
        Fault(
            'kinds of repairs in memory',
            [str(repair) for repair in repairs],
            'nothing to do',
            False,
        )
    ]
    if subject.classes is not None:
        try:
            check_classes(subject.name, subject.classes, subject.annotations, category_names(coco))
            check_num_classes(subject.model, subject.name, len(subject.classes))
        except ValueError as error:
            faults.append(Fault('classes that disagree', [error], 'see docs/finetune.md'))
    num_queries = args.num_queries or number_of_queries(subject.model)
    faults += contents.faults + query_faults(contents, num_queries)
    if subject.annotated:
        try:
            check_contents(
                subject.name, subject.annotations, coco, contents, subject.dataset, subject.training
            )
        except ValueError as error:
            faults.append(Fault('data that would end a run', [error], 'see above'))
    if not args.no_images:
        faults += image_faults(coco, subject.images, args.threads)
    print_contents(contents, num_queries, args.no_images)
    faults = [fault for fault in faults if fault.cases]
    print_faults(faults)
    if contents.sizes:
        name = subject.name.replace('_dataloader', '').replace('.dataset', '')
        picture = draw_sizes(contents, num_queries, subject.name, args.out / f'{name}.png')
        print(f'  box sizes: {picture}' if picture else '  no picture: pip install matplotlib')
    return not any(fault.error for fault in faults)


def print_contents(contents: Contents, num_queries: int | None, unread: bool) -> None:
    p50, p99 = (contents.percentile(percent) for percent in (50, 99))
    classes = [f'{name} {count}' for name, count in contents.per_class.items()]
    more = ', ...' if len(classes) > CLASSES else ''
    rows = {
        'classes': f'{len(classes)}: {", ".join(classes[:CLASSES])}{more}',
        'images': f'{len(contents.counts)}{" (not read)" if unread else ""}',
        'without objects': str(contents.num_empty),
        'objects': f'{len(contents.sizes)}, and {contents.num_crowds} crowds or ignored',
        'objects an image': f'p50 {p50}, p99 {p99}, max {max(contents.counts, default=0)}',
        'queries': str(num_queries or 'not known; give CONFIG or --num-queries'),
    }
    for name, value in rows.items():
        print(f'  {name:<18}{value}')


def print_faults(faults: list[Fault]) -> None:
    for fault in sorted(faults, key=lambda fault: not fault.error):
        kind = 'ERROR' if fault.error else 'warning'
        shown = [str(case) for case in fault.cases[:SHOWN]]
        more = ['...'] if len(fault.cases) > SHOWN else []
        print(f'  {kind:<9}{len(fault.cases):>7}  {fault.what}')
        for line in [*shown, *more, f'-> {fault.advice}']:
            print(f'{"":20}{line}')


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='?', help='path of a config; its data sets are checked')
    parser.add_argument(
        '--splits', nargs='+', default=['train', 'val'], help='splits of the config to check'
    )
    parser.add_argument('--ann', type=Path, help='annotation file, without a config')
    parser.add_argument('--images', type=Path, help='folder of its images')
    parser.add_argument('--num-queries', type=int, help='replaces the number of the config')
    parser.add_argument('--no-images', action='store_true', help='do not read the images')
    parser.add_argument('--threads', type=int, help='threads that read images (default: all cores)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/check_dataset'))
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if bool(args.config) == bool(args.ann):
        parser.error('give either a config or --ann FILE --images FOLDER')
    if args.ann and not (args.images or args.no_images):
        parser.error('--ann needs --images FOLDER, or --no-images')
    try:
        if args.ann:
            subjects = [Subject(args.ann.stem, args.ann, args.images or Path())]
        else:
            cfg = read_config(parser, args.config, args.cfg_options)
            subjects = list(subjects_of(cfg, args.splits))
        good = [inspect_subject(subject, args) for subject in subjects]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(f'\n{"no errors" if all(good) else "there are errors"}')
    return 0 if all(good) else 1


if __name__ == '__main__':
    sys.exit(main())
