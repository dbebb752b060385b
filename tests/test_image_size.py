"""`image_size`: the size of images is one argument, whatever the pipelines."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from mmengine.config import Config
from test_completion import write

from mmdetr_plugin.datasets.completion import complete
from mmdetr_plugin.datasets.image_size import resize_of_tests, set_image_size


def sized(name: str, size: object) -> Config:
    cfg = tiny.load(name)
    cfg.merge_from_dict({'image_size': size})
    set_image_size(cfg)
    return cfg


def steps(cfg: Config, kind: str, split: str = 'train') -> list[dict]:
    """The steps of a type in the pipeline of a split, at any depth."""
    found, left = [], [cfg[f'{split}_dataloader'].dataset.pipeline]
    while left:
        node = left.pop(0)
        if isinstance(node, dict):
            found += [node] if str(node.get('type')).endswith(kind) else []
            left += node.values()
        elif isinstance(node, (list, tuple)):
            left += node
    return found


def test_shorter_sides_are_scaled() -> None:
    """DETR's augmentation keeps its proportions: 480..800 of 800 become 240..400 of 400."""
    cfg = sized('detr_r50', 400)
    for split in ('val', 'test'):
        assert [tuple(step.scale) for step in steps(cfg, 'Resize', split)] == [(666, 400)]
    scales = [[tuple(s) for s in step.scales] for step in steps(cfg, 'RandomChoiceResize')]
    assert scales[0][:2] == [(240, 666), (256, 666)] and scales[0][-1] == (400, 666)
    assert any((200, 2100) in each for each in scales)
    (crop,) = steps(cfg, 'RandomCrop')
    assert tuple(crop.crop_size) == (192, 300)


def test_squares_keep_to_multiples_of_32() -> None:
    cfg = sized('finetune/rt_detr_r18_12e', 448)
    for split in ('train', 'val', 'test'):
        assert [tuple(step.scale) for step in steps(cfg, 'Resize', split)] == [(448, 448)]
    cfg = sized('finetune/rf_detr_small_12e', 384)
    (batch,) = [hook.augment for hook in cfg.custom_hooks if 'augment' in hook]
    assert all(size % 32 == 0 for size in batch.sizes)
    assert (min(batch.sizes), max(batch.sizes)) == (256, 512)
    assert tuple(resize_of_tests(cfg).scale) == (384, 384)


def test_pipelines_of_hooks_are_scaled() -> None:
    cfg = sized('deim_d_fine_s', 320)
    switches = [hook.switch_pipeline for hook in cfg.custom_hooks if 'switch_pipeline' in hook]
    assert len(switches) == 3
    for pipeline in switches:
        assert [tuple(s.scale) for s in pipeline if s.type == 'Resize'] == [(320, 320)]
    assert 'side=160' in str(switches[0]).replace("'side': ", 'side=')


@pytest.mark.parametrize('name', ['detr_r50', 'd_fine_s', 'rf_detr_nano', 'digits_dino'])
def test_the_size_of_the_config_and_a_second_time_change_nothing(name: str) -> None:
    plain = tiny.load(name)
    size = min(resize_of_tests(plain).scale)
    assert sized(name, size).to_dict() == {**plain.to_dict(), 'image_size': size}
    cfg = sized(name, 96)
    once = cfg.to_dict()
    set_image_size(cfg)
    assert cfg.to_dict() == once != plain.to_dict()


def test_tools_and_loading_follow_it(tmp_path: Path) -> None:
    """A config that states it in one line, as docs/finetune.md shows it."""
    write(tmp_path / 'annotations/train.json')
    write(tmp_path / 'annotations/val.json')
    cfg = tiny.load('finetune/d_fine_s_12e')
    cfg.merge_from_dict({'image_size': 320, 'data_root': str(tmp_path)})
    complete(cfg)
    assert tuple(resize_of_tests(cfg).scale) == (320, 320)
    cfg = tiny.load('d_fine_s')
    cfg.image_size = 96
    cfg.model = tiny.shrink(cfg.model)
    model = tiny.MODELS.build(cfg.model)
    model.cfg = cfg  # as mmdet's init_detector does
    assert tuple(resize_of_tests(model.cfg).scale) == (96, 96)


@pytest.mark.parametrize(
    ('name', 'size', 'words'),
    [
        ('d_fine_s', 500, 'a multiple of 32, got 500'),
        ('d_fine_s', (640, 640), r'a multiple of 32, got'),
        ('detr_r50', 0, 'a positive integer, got 0'),
        ('detr_r50', '800', "a positive integer, got '800'"),
    ],
)
def test_sizes_that_cannot_be(name: str, size: object, words: str) -> None:
    with pytest.raises(ValueError, match=f'image_size must be {words}'):
        sized(name, size)


def test_a_pipeline_without_a_resize() -> None:
    cfg = tiny.load('detr_r50')
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile')]
    cfg.image_size = 400
    with pytest.raises(
        ValueError, match='needs a Resize with a scale in the pipeline of test_data'
    ):
        set_image_size(cfg)
