"""What a config leaves open is read from the user's data: folder, classes, their number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmdetr_plugin.datasets.agreement import check_agreement
from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.presence import check_presence
from mmdetr_plugin.registry import DATASETS, METRICS, MODELS

NAMES = ('cat', 'dog', 'fish')
SPLITS = ('train', 'val', 'test')


def write(file: Path, names: tuple[str, ...] = NAMES) -> None:
    """A COCO file of one image. Its category ids are not contiguous and do not start at 0."""
    file.parent.mkdir(parents=True, exist_ok=True)
    categories = [{'id': 3 * i + 2, 'name': name} for i, name in enumerate(names)]
    image = {'id': 1, 'file_name': '1.jpg', 'height': 60, 'width': 80}
    thing = {'id': 1, 'image_id': 1, 'category_id': 5, 'bbox': [10, 10, 20, 20]}
    content = {
        'images': [image],
        'annotations': [{**thing, 'area': 400, 'iscrowd': 0}],
        'categories': categories,
    }
    file.write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / 'annotations/train.json')
    write(tmp_path / 'annotations/val.json')
    return tmp_path


def custom(folder: Path) -> Config:
    cfg = tiny.load('finetune/detr_r50_12e')
    cfg.merge_from_dict({'data_root': str(folder)})  # as --cfg-options does it
    return cfg


def test_a_folder_is_all_that_is_told(folder: Path) -> None:
    cfg = custom(folder)
    complete(cfg)
    assert cfg.model.num_classes == 3
    for split in SPLITS:
        dataset = cfg[f'{split}_dataloader'].dataset
        with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
            built = DATASETS.build({**dataset, 'pipeline': []})
        assert built.metainfo['classes'] == NAMES
        assert built.cat2label == {2: 0, 5: 1, 8: 2}
        assert Path(built.ann_file).parent == folder / 'annotations'
    for split in ('val', 'test'):
        assert cfg[f'{split}_evaluator'].ann_file == str(folder / 'annotations/val.json')


def test_other_layouts_are_options(tmp_path: Path) -> None:
    cfg = custom(tmp_path)
    write(tmp_path / 'train/_annotations.coco.json')
    write(tmp_path / 'valid/_annotations.coco.json')
    for split, place in zip(SPLITS, ('train', 'valid', 'valid')):
        key = f'{split}_dataloader.dataset'
        cfg.merge_from_dict({f'{key}.ann_file': f'{place}/_annotations.coco.json'})
    complete(cfg)
    assert cfg.model.num_classes == 3
    assert cfg.val_evaluator.ann_file == str(tmp_path / 'valid/_annotations.coco.json')


def test_stated_values_stay(folder: Path) -> None:
    cfg = custom(folder)
    cfg.model.num_classes = 3
    cfg.train_dataloader.dataset.data_root = 'elsewhere'
    cfg.val_evaluator.ann_file = 'other.json'
    before = cfg.train_dataloader.to_dict()
    complete(cfg)
    before['dataset']['type'] = 'mmdetr_plugin.CheckedCocoDataset'
    assert cfg.train_dataloader.to_dict() == before
    assert cfg.val_evaluator.ann_file == 'other.json'


def test_classes_that_the_config_chooses(folder: Path) -> None:
    cfg = custom(folder)
    cfg.train_dataloader.dataset.metainfo = {'classes': ('cat', 'fish')}
    for split in ('val', 'test'):
        cfg[f'{split}_dataloader'].dataset.metainfo = {'classes': ['cat', 'fish']}
    complete(cfg)
    assert cfg.model.num_classes == 2


def test_wrapped_datasets(folder: Path) -> None:
    cfg = custom(folder)
    inner = cfg.train_dataloader.dataset
    both = {'type': 'ConcatDataset', 'datasets': [inner, inner.copy()]}
    cfg.train_dataloader.dataset = {'type': 'RepeatDataset', 'times': 2, 'dataset': both}
    complete(cfg)
    assert cfg.model.num_classes == 3
    for part in cfg.train_dataloader.dataset.dataset.datasets:
        assert tuple(part.metainfo.classes) == NAMES


@pytest.mark.parametrize(
    ('base', 'number'),
    [('voc0712', 20), ('objects365v2_detection', 365), ('lvis_v1_instance', 1203)],
)
def test_data_that_brings_its_classes(base: str, number: int, tmp_path: Path) -> None:
    """Nothing has to be there to know them."""
    file = tmp_path / 'config.py'
    file.write_text(
        f"_base_ = 'mmdet::_base_/datasets/{base}.py'\nmodel = dict(num_classes=None)\n"
    )
    cfg = Config.fromfile(file)
    complete(cfg)
    assert cfg.model.num_classes == number


def test_data_sets_must_agree(folder: Path) -> None:
    write(folder / 'annotations/val.json', ('dog', 'cat', 'fish'))
    text = (
        r'val_dataloader.dataset must have the classes of train_dataloader.dataset in the same '
        r'order, \[cat, dog, fish\], got \[dog, cat, fish\]; .* write both files with the same list'
    )
    with pytest.raises(ValueError, match=text):
        complete(custom(folder))


def test_missing_training_data_is_told(tmp_path: Path) -> None:
    text = 'the annotations of train_dataloader.dataset must be at .*train.json'
    with pytest.raises(FileNotFoundError, match=f'{text}.* --cfg-options data_root=FOLDER/$'):
        check_presence(custom(tmp_path), ('train',))
    with pytest.raises(FileNotFoundError, match=f'{text}.*use the config that training left'):
        complete(custom(tmp_path))


def test_training_data_elsewhere_is_told(folder: Path) -> None:
    with pytest.raises(ValueError, match='must have a COCO file on this machine'):
        cfg = custom(folder)
        cfg.train_dataloader.dataset.data_root = 's3://bucket'
        complete(cfg)


def test_no_data_is_told() -> None:
    with pytest.raises(
        ValueError, match='num_classes=None needs data with an annotation file, got'
    ):
        complete(Config({'model': {'num_classes': None}}))


def test_model_says_who_counts() -> None:
    with pytest.raises(
        ValueError, match=r'positive integer, got None; .*None, tools/train.py counts'
    ):
        MODELS.build(tiny.load('finetune/detr_r50_12e').model)


def test_data_sets_without_countable_classes_say_it(tmp_path: Path) -> None:
    """Open Images has files of its own, and its classes are in none of the annotation files."""
    file = tmp_path / 'config.py'
    file.write_text(
        "_base_ = 'mmdet::_base_/datasets/openimages_detection.py'\nmodel = dict(num_classes=None)\n"
    )
    cfg = Config.fromfile(file)
    cfg.train_dataloader.dataset.data_root = str(tmp_path)
    annotations = tmp_path / cfg.train_dataloader.dataset.ann_file
    annotations.parent.mkdir()
    for text in (None, 'ImageID,Source\n'):
        if text:
            annotations.write_text(text)
        with pytest.raises(
            ValueError, match=r'train_dataloader.dataset is a OpenImagesDataset, .*num_classes=601'
        ):
            complete(cfg.copy())


def test_a_finetune_data_set_works_in_other_tools(folder: Path) -> None:
    """mmdet's tools build it as the config states it: it reads its classes itself."""
    dataset = tiny.load('finetune/dino_r50_12e').train_dataloader.dataset
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        built = DATASETS.build({**dataset, 'data_root': str(folder), 'pipeline': []})
        assert built.metainfo['classes'] == NAMES
        assert [instance['bbox_label'] for instance in built[0]['instances']] == [1]
        with pytest.raises(
            FileNotFoundError, match=r'dataset.data_root=FOLDER/\), or take the config'
        ):
            DATASETS.build({**dataset, 'pipeline': []})
        evaluator = tiny.load('finetune/dino_r50_12e').val_evaluator
        with pytest.raises(ValueError, match=r'got None, .* state val_evaluator.ann_file=FILE'):
            METRICS.build(evaluator)


def test_stated_number_of_classes_is_compared_with_the_file(folder: Path) -> None:
    cfg = custom(folder)
    cfg.model.num_classes = 5
    complete(cfg)
    with pytest.raises(
        ValueError, match=r'num_classes must be .*train_dataloader.dataset, 3, got 5'
    ):
        check_agreement(cfg, ('train',))
