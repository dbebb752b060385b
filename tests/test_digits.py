"""The digits set: what its pictures, boxes, masks and segments promise, and how it is written."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli import load
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmdetr_plugin.datasets import DIGIT_CLASSES, STUFF_CLASSES, make_digits
from mmdetr_plugin.datasets.digits import build
from mmdetr_plugin.datasets.digits.scene import MAX_GLYPHS, MAX_OVERLAP, MIN_CONTRAST

REPOSITORY = Path(__file__).parents[1]
COUNTS = {'train': 24, 'val': 12}
SIZE = 160


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    assert make_digits(root, COUNTS['train'], COUNTS['val'])
    return root


def annotations(root, split, panoptic=False):
    name = f'panoptic_{split}.json' if panoptic else f'{split}.json'
    return json.loads((root / 'annotations' / name).read_text())


def instances_of(root, split):
    """(image record, its annotations, their (S, S) masks) of every picture."""
    content = annotations(root, split)
    by_image = defaultdict(list)
    for annotation in content['annotations']:
        by_image[annotation['image_id']].append(annotation)
    for image in content['images']:
        found = by_image[image['id']]
        yield image, found, [mask_utils.decode(a['segmentation']) > 0 for a in found]


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob('*') if path.is_file()}


def tight(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]


@pytest.mark.parametrize('split', COUNTS)
def test_boxes_are_tight_around_ink_inside_the_picture(root, split):
    for image, found, masks in instances_of(root, split):
        assert 1 <= len(found) <= MAX_GLYPHS
        for annotation, mask in zip(found, masks, strict=True):
            assert mask.shape == (image['height'], image['width']) == (SIZE, SIZE)
            assert annotation['bbox'] == tight(mask)
            assert annotation['bbox'] == mask_utils.toBbox(annotation['segmentation']).tolist()
            assert annotation['area'] == mask.sum() and annotation['iscrowd'] == 0
            assert 15 <= annotation['bbox'][3] <= 80


@pytest.mark.parametrize('split', COUNTS)
def test_glyphs_hardly_overlap(root, split):
    for _, found, masks in instances_of(root, split):
        for (a, mask), (b, other) in combinations(zip(found, masks, strict=True), 2):
            assert not (mask & other).any()
            boxes = np.array([a['bbox'], b['bbox']], float)
            low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            shared = np.clip(high.min(axis=0) - low.max(axis=0), 0, None).prod()
            assert shared <= MAX_OVERLAP * boxes[:, 2:].prod(axis=1).min()


@pytest.mark.parametrize('split', COUNTS)
def test_ink_stands_out_in_the_written_jpeg(root, split):
    kernel = np.ones((3, 3), np.uint8)
    for image, found, masks in instances_of(root, split):
        grey = cv2.imread(str(root / split / image['file_name']), cv2.IMREAD_GRAYSCALE).astype(int)
        near_ink = cv2.dilate(np.any(masks, axis=0).astype(np.uint8), kernel, iterations=3) > 0
        for annotation, mask in zip(found, masks, strict=True):
            x, y, w, h = annotation['bbox']
            around = np.zeros_like(mask)
            around[max(y - 6, 0) : y + h + 6, max(x - 6, 0) : x + w + 6] = True
            ink = np.median(grey[mask])
            difference = np.abs(grey[around & ~near_ink] - ink)
            assert np.median(difference) >= MIN_CONTRAST
            assert np.percentile(difference, 20) >= MIN_CONTRAST / 2


def test_validation_handwriting_is_not_trained_on(root):
    glyphs = {s: {a['glyph'] for a in annotations(root, s)['annotations']} for s in COUNTS}
    assert max(glyphs['train']) < 1400 <= min(glyphs['val'])
    assert max(glyphs['val']) < 1797


def test_labels_are_those_of_the_glyphs(root):
    target = pytest.importorskip('sklearn.datasets').load_digits().target
    for split in COUNTS:
        content = annotations(root, split)
        assert [(c['id'], c['name']) for c in content['categories']] == [
            (digit + 1, str(digit)) for digit in range(10)
        ]
        for annotation in content['annotations']:
            assert annotation['category_id'] == target[annotation['glyph']] + 1


@pytest.mark.parametrize('split', COUNTS)
def test_panoptic_segments_agree_with_png_and_instances(root, split):
    content = annotations(root, split, panoptic=True)
    by_image = {record['image_id']: record for record in content['annotations']}
    for image, found, masks in instances_of(root, split):
        record = by_image[image['id']]
        bgr = cv2.imread(str(root / 'panoptic' / split / record['file_name'])).astype(np.int64)
        ids = bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]
        infos = record['segments_info']
        assert set(np.unique(ids)) == {info['id'] for info in infos}  # every pixel is labelled
        assert len({info['id'] for info in infos}) == len(infos)
        for info in infos:
            assert info['area'] == (ids == info['id']).sum() and info['iscrowd'] == 0
            assert info['bbox'] == tight(ids == info['id'])
        things = [info for info in infos if info['category_id'] <= 10]
        assert 1 <= len(infos) - len(things) <= 4
        assert len(things) == len(found)
        for info, annotation, mask in zip(things, found, masks, strict=True):
            assert info['category_id'] == annotation['category_id']
            assert np.array_equal(ids == info['id'], mask)


def test_panoptic_categories(root):
    categories = annotations(root, 'train', panoptic=True)['categories']
    assert [c['id'] for c in categories] == list(range(1, 17))
    assert tuple(c['name'] for c in categories) == DIGIT_CLASSES + STUFF_CLASSES
    assert [c['isthing'] for c in categories] == [1] * 10 + [0] * 6


def test_settings_decide_every_byte_and_counts_only_how_many(root, tmp_path):
    other = tmp_path / 'digits'
    make_digits(other, num_train=6, num_val=3)
    for split, count in (('train', 6), ('val', 3)):
        for index in range(count):
            for path in (f'{split}/{index:06d}.jpg', f'panoptic/{split}/{index:06d}.png'):
                assert (other / path).read_bytes() == (root / path).read_bytes()
        few = annotations(other, split)['annotations']
        assert few == annotations(root, split)['annotations'][: len(few)]
    again = tmp_path / 'again'
    make_digits(again, num_train=6, num_val=3)
    assert files(again) == files(other)
    make_digits(again, num_train=6, num_val=3, seed=1)
    assert (again / 'train/000000.jpg').read_bytes() != (root / 'train/000000.jpg').read_bytes()


def test_a_complete_set_is_left_and_a_damaged_one_made_again(tmp_path):
    root = tmp_path / 'digits'
    assert make_digits(root, 2, 1)
    picture = root / 'train' / '000001.jpg'
    before, content = picture.stat().st_mtime_ns, picture.read_bytes()
    assert not make_digits(root, 2, 1)
    assert picture.stat().st_mtime_ns == before
    picture.unlink()
    assert make_digits(root, 2, 1)
    assert picture.read_bytes() == content
    assert make_digits(root, 3, 1)  # other settings
    assert len(list((root / 'train').iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ['digits']


@pytest.mark.parametrize('earlier', [False, True])
def test_an_interrupted_run_leaves_nothing_half_written(tmp_path, monkeypatch, earlier):
    root = tmp_path / 'data' / 'digits'
    if earlier:
        make_digits(root, 2, 1)
    before = files(tmp_path)
    write_split = build.write_split

    def interrupted(folder, split, scenes):
        if split == 'val':
            raise KeyboardInterrupt
        write_split(folder, split, scenes)

    monkeypatch.setattr(build, 'write_split', interrupted)
    with pytest.raises(KeyboardInterrupt):
        make_digits(root, 3, 1)
    assert files(tmp_path) == before
    assert root.exists() == earlier


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(FileExistsError, match=r'must be new, empty or a digits set, got .* name'):
        make_digits(tmp_path, 2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'num_train': 0}, 'num_train and num_val must be 1 or more, got 0 and 200'),
        ({'size': 32}, 'size must be 64 to 400 .* got size 32'),
        ({'seed': -1}, 'seed 0 or more, got size 160 and seed -1'),
    ],
)
def test_settings_out_of_range(tmp_path, settings, text):
    with pytest.raises(ValueError, match=text):
        make_digits(tmp_path / 'digits', **settings)
    assert not list(tmp_path.iterdir())


def test_missing_scikit_learn_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match=r"pip install '.\[demo\]'"):
        make_digits(tmp_path / 'digits', 2, 1)
    assert not list(tmp_path.iterdir())


def test_other_sizes(tmp_path):
    make_digits(tmp_path / 'digits', 1, 1, size=400)
    assert cv2.imread(str(tmp_path / 'digits/train/000000.jpg')).shape == (400, 400, 3)


def test_command_line(tmp_path, capsys):
    make_digits_command = load(REPOSITORY / 'tools' / 'make_digits.py')
    root = tmp_path / 'digits'
    arguments = ['--root', str(root), '--num-train', '2', '--num-val', '1']
    for text in ('2 training and 1 validation pictures written in', 'already there'):
        assert make_digits_command.main(arguments) == 0
        printed = capsys.readouterr().out
        assert text in printed and str(root / 'annotations' / 'val.json') in printed


@pytest.fixture(scope='module')
def config(root):
    register_all_modules(init_default_scope=True)
    config = Config.fromfile(REPOSITORY / 'configs/_base_/datasets/digits_detection.py')
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.dataset.data_root = str(root)
    return config


def test_mmdet_loads_it_through_the_config(root, config):
    assert tuple(config.metainfo.classes) == DIGIT_CLASSES
    for split, loader in (('train', config.train_dataloader), ('val', config.val_dataloader)):
        dataset = DATASETS.build(loader.dataset)
        assert len(dataset) == COUNTS[split]
        boxes = {image['id']: found for image, found, _ in instances_of(root, split)}
        for index in range(len(dataset)):
            sample = dataset[index]
            # Of a training picture that lost all boxes mmdet takes another.
            found = boxes[sample['data_samples'].img_id]
            assert sample['inputs'].shape == (3, SIZE, SIZE)
            truth = sample['data_samples'].gt_instances
            if split == 'val':  # training moves pictures about
                assert sample['data_samples'].img_id == list(boxes)[index]
                labels = [annotation['category_id'] - 1 for annotation in found]
                assert truth.labels.tolist() == labels
                widths = (truth.bboxes.tensor[:, 2:] - truth.bboxes.tensor[:, :2]).tolist()
                assert widths == [annotation['bbox'][2:] for annotation in found]
            assert len(truth) <= len(found) and (truth.labels < 10).all()


def test_mmdet_and_pycocotools_read_the_ink(root, config):
    settings = config.val_dataloader.dataset.copy()
    settings.pipeline = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadAnnotations', 'with_bbox': True, 'with_mask': True},
    ]
    dataset = DATASETS.build(settings)
    coco = COCO(root / 'annotations' / 'val.json')
    for index, (image, _, masks) in enumerate(instances_of(root, 'val')):
        assert np.array_equal(dataset[index]['gt_masks'].masks, np.array(masks, np.uint8))
        for annotation, mask in zip(coco.imgToAnns[image['id']], masks, strict=True):
            assert np.array_equal(coco.annToMask(annotation), mask)


def test_mmdet_loads_the_panoptic_annotations(root):
    register_all_modules(init_default_scope=True)
    dataset = DATASETS.build(
        {
            'type': 'CocoPanopticDataset',
            'data_root': str(root),
            'ann_file': 'annotations/panoptic_train.json',
            'data_prefix': {'img': 'train/', 'seg': 'panoptic/train/'},
            'metainfo': {
                'classes': DIGIT_CLASSES + STUFF_CLASSES,
                'thing_classes': DIGIT_CLASSES,
                'stuff_classes': STUFF_CLASSES,
            },
            'filter_cfg': {'filter_empty_gt': True},
        }
    )
    assert len(dataset) == COUNTS['train']
    for index, (_, found, _) in enumerate(instances_of(root, 'train')):
        info = dataset.get_data_info(index)
        assert Path(info['seg_map_path']).is_file()
        assert [thing['bbox_label'] + 1 for thing in info['instances']] == [
            annotation['category_id'] for annotation in found
        ]
        for segment in info['segments_info']:
            assert bool(segment['is_thing']) == (segment['category'] < 10)
