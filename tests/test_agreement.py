"""A class list that is not that of the annotation file is an error, before training starts."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from cli import ROOT, TOOLS, load, run_python, small_options, write_coco
from mmdet.datasets import CocoDataset
from mmengine.config import Config

from mmdetr_plugin.datasets import agreement
from mmdetr_plugin.datasets.agreement import check_agreement
from mmdetr_plugin.datasets.annotations import read_category_names

COCO = CocoDataset.METAINFO['classes']
SPLITS = ('train', 'val', 'test')


def config(folder: Path, name: str = 'detr_r50', **train: object) -> Config:
    """A config on `write_coco`'s pictures, with entries of its training set replaced."""
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    for split in SPLITS:
        cfg[f'{split}_dataloader'].dataset.data_root = f'{folder}/'
    cfg.train_dataloader.dataset.update(train)
    return cfg


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('coco')
    write_coco(folder)
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The annotation files that the check has read."""
    files = []

    def read_names(path: Path, annotated: bool) -> list[str]:
        files.append(path)
        return read_category_names(path, annotated)

    monkeypatch.setattr(agreement, 'read_category_names', read_names)
    return files


def test_agreement_is_silent(coco: Path, read: list[Path]) -> None:
    check_agreement(config(coco), SPLITS)
    assert [file.stem for file in read] == [f'instances_{s}2017' for s in ('train', 'val', 'val')]
    part = config(coco, metainfo={'classes': COCO[:3]})
    part.model.num_classes = 3
    check_agreement(part, ('train',))  # categories may be left out
    assert len(read) == 4


@pytest.mark.parametrize(
    ('classes', 'text'),
    [
        (
            ('person', 'bycicle', 'cap'),
            r'categories of .*instances_train2017.json, got 3 classes, '
            r"of which the file lacks 2: \['bycicle'"
            r".*train_dataloader.dataset.metainfo=dict\(classes=\('person', 'bicycle', ",
        ),
        (COCO[:1] + COCO[2:] + COCO[1:2], 'must be in the order of the categories in .*2017'),
        ('person', r"must be a tuple of names, got 'person'; .*: classes=\('person',\)"),
        (COCO[:3], r'num_classes must be .* of train_dataloader.dataset, 3, got 80; set .*=3'),
    ],
)
def test_disagreement_is_told(classes: object, text: str, coco: Path) -> None:
    with pytest.raises(ValueError, match=text):
        check_agreement(config(coco, metainfo={'classes': classes}), SPLITS)


def test_wrapped_sets_are_looked_at(coco: Path) -> None:
    cfg = config(coco, metainfo={'classes': ('cat', 'unicorn')})
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=cfg.train_dataloader.dataset
    )
    with pytest.raises(ValueError, match=r'classes of train_dataloader.dataset.dataset must be'):
        check_agreement(cfg, ('train',))


def test_other_formats_are_left_alone(coco: Path, read: list[Path]) -> None:
    voc = {'type': 'VOCDataset', 'ann_file': 'annotations/instances_train2017.json'}
    check_agreement(config(coco, **voc, metainfo={'classes': ('unicorn',)}), ('train',))
    remote = {'data_root': '', 'ann_file': 's3://bucket/train.json'}
    check_agreement(config(coco, **remote), ('train',))
    assert read == []


def test_without_the_check_images_are_dropped_silently(coco: Path) -> None:
    """What mmdet does, and why the tools look first."""
    data = CocoDataset(
        ann_file=str(coco / 'annotations/instances_train2017.json'),
        metainfo={'classes': ('person', 'unicorn')},
        filter_cfg={'filter_empty_gt': True},
        data_prefix={'img': ''},
        pipeline=[],
    )
    assert len(data) == 1  # of two


def test_overfit_looks_too(coco: Path, tmp_path: Path) -> None:
    dataset = {'data_root': f'{coco}/', 'metainfo.classes': ('unicorn',)}
    options = {f'train_dataloader.dataset.{key}': value for key, value in dataset.items()}
    args = Namespace(work_dir=tmp_path, as_is=True, cfg_options=options)
    with pytest.raises(ValueError, match='must be categories of'):
        load(TOOLS / 'overfit.py').learn(str(ROOT / 'configs/detr_r50.py'), args)


def test_tools_end_with_the_reason(coco: Path, tmp_path: Path) -> None:
    options = [*small_options(coco), "train_dataloader.dataset.metainfo.classes=('unicorn',)"]
    text = run_python(
        *(TOOLS / 'train.py', ROOT / 'configs/detr_r50.py', '--cfg-options', *options),
        cwd=tmp_path,
        code=2,
    )
    assert 'must be categories of' in text
    assert 'Traceback' not in text


def test_what_is_not_coco_ends_the_tools(coco: Path, tmp_path: Path) -> None:
    file = tmp_path / 'train.xml'
    file.write_text('<annotation/>')
    options = [*small_options(coco), f'train_dataloader.dataset.ann_file={file}']
    text = run_python(
        *(TOOLS / 'train.py', ROOT / 'configs/detr_r50.py', '--cfg-options', *options),
        cwd=tmp_path,
        code=2,
    )
    assert f'{file} must be a COCO file in JSON, got XML' in text
    assert 'Traceback' not in text
