"""What is left of odd data sets: nothing is an error before the first step, a part is a warning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from cli import TOOLS, load
from criterion_cases import warned  # noqa: F401
from mmengine.config import Config
from PIL import Image

from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.validation import validate
from mmdetr_plugin.registry import DATASETS, TRANSFORMS

Coco = dict[str, list[dict]]
SIZE = (48, 32)


def write(folder: Path, change: Callable[[Coco], object] = lambda coco: None) -> Config:
    """A config of three training pictures with two boxes each, and a good validation set."""
    for split in ('train', 'val'):
        box = {'bbox': [4, 5, 10, 8], 'area': 80, 'iscrowd': 0, 'category_id': 1}
        corners = [[4, 5, 14, 5, 14, 13, 4, 13]]
        coco: Coco = {
            'images': [
                {'id': i, 'file_name': f'{i}.png', 'width': 48, 'height': 32} for i in (1, 2, 3)
            ],
            'annotations': [
                {'id': i, 'image_id': 1 + i // 2, **box, 'segmentation': corners} for i in range(6)
            ],
            'categories': [{'id': 1, 'name': 'nut'}],
        }
        for i, record in enumerate(coco['annotations'], start=1):
            record.update(id=i, bbox=[3 + i, 5, 10, 8])
        (folder / split).mkdir(parents=True, exist_ok=True)
        for image in coco['images']:
            Image.effect_noise(SIZE, 50).save(folder / split / image['file_name'])
        if split == 'train':
            change(coco)
        (folder / 'annotations').mkdir(exist_ok=True)
        (folder / f'annotations/{split}.json').write_text(json.dumps(coco))
    cfg = tiny.load('finetune/detr_r50_12e')
    cfg.merge_from_dict({'data_root': str(folder)})
    return cfg


def checked(cfg: Config, *splits: str) -> Config:
    complete(cfg)
    validate(cfg, splits or ('train', 'val'))
    return cfg


def each(key: str, **fields: object) -> Callable[[Coco], object]:
    return lambda coco: [record.update(fields) for record in coco[key]]


def few(key: str, **fields: object) -> Callable[[Coco], object]:
    return lambda coco: coco[key][0].update(fields)


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (each('annotations', bbox=[0.1, 0.2, 0.3, 0.3]), '6 of 6 .*6: box in 0..1, which must be'),
        (each('annotations', bbox=[4, 5, 0.2, 9]), '6 of 6 .*6: box below one pixel'),
        (each('annotations', bbox=[60, 5, 70, 9]), '6 of 6 .*6: box outside of its image'),
        (each('annotations', image_id=9), '6 of 6 .*6: image_id of no listed image'),
        (each('annotations', category_id=9), '6 of 6 .*6: category_id of no category'),
        (each('annotations', iscrowd=1), '3 images, 6 crowds and no other object'),
        (each('images', width=-1, height=-1), 'image whose stated size is 0 or negative'),
        (lambda coco: coco.update(images=[], annotations=[]), '0 images, 0 crowds'),
        (lambda coco: coco.update(annotations=[]), 'no other object'),
        (each('annotations', id=3), 'must have different ids, got ids of several annotations'),
        (each('images', file_name='gone.png'), 'must be readable, got 3 images that are not there'),
        (each('images', file_name='..\\up\\1.png'), '1.png is there; the list has'),
        (each('images', file_name='../media/1.png'), '1.png is there; the list names another'),
        (each('images', file_name='1.PNG'), '1.png is there; upper and lower case differ'),
        (few('images', width=48_000, height=1), 'resizes images to at most .* 48000 x 1; tile'),
    ],
)
def test_an_error_before_the_first_step(
    change: Callable[[Coco], object], text: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=text):
        checked(write(tmp_path, change), 'train')


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (few('annotations', bbox=[60, 5, 70, 9]), 'left out: 1 of 6 objects: 1: box outside of'),
        (few('annotations', image_id=9), 'left out: 1 of 6 objects: 1: image_id of no listed'),
        (
            few('images', width=0, height=0),
            'images left out by filter_cfg: 1 smaller than min_size',
        ),
        (each('annotations', bbox=[10, 10, 40, 30]), '6 boxes that reach out of their image'),
        (each('annotations', area=0), 'repaired in memory: 6 objects without area or with area 0'),
        (each('images', width=32, height=48), '3 images of another size than the annotations'),
    ],
)
def test_a_part_is_a_warning_with_numbers(
    change: Callable[[Coco], object],
    text: str,
    tmp_path: Path,
    warned: list[str],  # noqa: F811
) -> None:
    checked(write(tmp_path, change))
    assert any(text in line for line in warned), warned


def test_good_data_are_silent(tmp_path: Path, warned: list[str]) -> None:  # noqa: F811
    cfg = checked(write(tmp_path))
    assert warned == []
    for split in ('train', 'val'):
        assert cfg[f'{split}_dataloader'].dataset.type == 'mmdetr_plugin.CheckedCocoDataset'
    assert cfg.val_evaluator.type == 'mmdetr_plugin.CheckedCocoMetric'


def test_no_image_left_in_the_data_set_itself(tmp_path: Path) -> None:
    cfg = checked(write(tmp_path))
    chosen = {'filter_cfg': {'min_size': 100}, 'pipeline': []}
    with pytest.raises(ValueError, match=r'no image of .* is left of 3: filter_cfg='):
        DATASETS.build({**cfg.train_dataloader.dataset, **chosen})


def test_masks_must_be_there_where_they_are_trained(tmp_path: Path) -> None:
    cfg = write(tmp_path, few('annotations', segmentation=[]))
    checked(cfg)
    cfg.train_dataloader.dataset.pipeline[1].with_mask = True
    with pytest.raises(ValueError, match='but 1 have none, such as annotation 1 of image 1; add'):
        checked(cfg)


def test_a_test_set_without_annotations_gets_predictions_only(
    tmp_path: Path,
    warned: list[str],  # noqa: F811
) -> None:
    cfg = write(tmp_path)
    coco = json.loads((tmp_path / 'annotations/val.json').read_text())
    del coco['annotations']
    (tmp_path / 'annotations/val.json').write_text(json.dumps(coco))
    cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir = str(tmp_path / 'work')
    checked(cfg, 'test')
    assert cfg.test_evaluator.format_only
    assert cfg.test_evaluator.outfile_prefix == f'{tmp_path}/work/predictions'
    assert 'predictions are written to' in warned[-1]


def several(cfg: Config) -> Config:
    one = cfg.val_dataloader.dataset
    both = [one, {**one, 'ann_file': 'annotations/train.json', 'data_prefix': {'img': 'train/'}}]
    cfg.val_dataloader.dataset = {'type': 'ConcatDataset', 'datasets': both}
    return cfg


def test_several_validation_sets(tmp_path: Path) -> None:
    cfg = several(write(tmp_path))
    with pytest.raises(
        ValueError, match=r'an evaluator for each of the 2 .*MultiDatasetsEvaluator'
    ):
        complete(cfg)
    metrics = [{'type': 'CocoMetric', 'ann_file': None} for _ in range(2)]
    cfg = several(write(tmp_path))
    cfg.val_evaluator = dict(
        type='MultiDatasetsEvaluator', dataset_prefixes=['a', 'b'], metrics=metrics
    )
    complete(cfg)
    files = [Path(metric.ann_file).name for metric in cfg.val_evaluator.metrics]
    assert files == ['val.json', 'train.json']


def test_a_comma_forgotten(tmp_path: Path) -> None:
    cfg = write(tmp_path)
    cfg.train_dataloader.dataset.metainfo = {'classes': 'nut'}
    with pytest.raises(ValueError, match=r"must be a tuple of names, got 'nut'.*\('nut',\)"):
        complete(cfg)


def test_sixteen_bits_keep_their_range(tmp_path: Path) -> None:
    values = np.arange(832, 2512, dtype=np.uint16).reshape(40, 42)
    Image.fromarray(values).save(tmp_path / 'deep.png')
    load = TRANSFORMS.build({'type': 'mmdetr_plugin.LoadImage'})
    loaded = load({'img_path': str(tmp_path / 'deep.png')})['img']
    assert loaded.dtype == np.float32 and loaded.shape == (40, 42, 3)
    assert len(np.unique(loaded)) == values.size
    np.testing.assert_allclose(loaded[..., 1], values / 257, rtol=1e-5)


@pytest.mark.parametrize('stated', [(48, 32), (0, 0), (32, 48), (50, 32)])
def test_another_size_than_stated_stops_the_run(stated: tuple[int, int], tmp_path: Path) -> None:
    Image.effect_noise(SIZE, 50).save(tmp_path / '1.png')
    load = TRANSFORMS.build({'type': 'mmdetr_plugin.LoadImage'})
    record = {'img_path': str(tmp_path / '1.png'), 'width': stated[0], 'height': stated[1]}
    if stated in ((48, 32), (0, 0)):
        assert load(record)['img'].shape == (32, 48, 3)
        return
    with pytest.raises(ValueError, match='got 48 x 32: its boxes would be wrong') as error:
        load(record)
    assert ('EXIF' in str(error.value)) == (stated == (32, 48))


def test_the_benchmark_of_the_validation(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark = load(TOOLS / 'benchmarks' / 'validation.py')
    assert benchmark.main(['--images', '230', '--objects', '500']) == 0
    assert '500 objects, 0 MB: checked in ' in capsys.readouterr().out
