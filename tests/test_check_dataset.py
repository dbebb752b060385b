"""`tools/check_dataset.py` finds what is wrong with a data set, and nothing where nothing is."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from cli import ROOT, TOOLS, load, write_coco
from mmengine.config import Config
from PIL import Image

from mmdetr_plugin.datasets.faults import Contents, Fault, read_contents
from mmdetr_plugin.datasets.image_faults import image_faults
from mmdetr_plugin.registry import TRANSFORMS

check_dataset = load(TOOLS / 'check_dataset.py')
CLASSES = ('nut', 'bolt')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images with one box each; see `cli.write_coco`."""
    made = tmp_path_factory.mktemp('coco')
    write_coco(made)
    return made


def scene(**extra: object) -> dict:
    """Twenty images of 100 x 80 with one good object each, and further annotations."""
    images = [{'id': i, 'file_name': f'{i}.jpg', 'width': 100, 'height': 80} for i in range(20)]
    coco = {
        'images': images,
        'annotations': [box(i, i) for i in range(20)],
        'categories': [{'id': 5 + i, 'name': name} for i, name in enumerate(CLASSES)],
    }
    for i, changes in enumerate(extra.get('boxes', ())):
        coco['annotations'].append(box(100 + i, **{'bbox': [10.5 + i / 2, 20, 20, 10], **changes}))
    return coco


def box(number: int, image_id: int = 0, **changes: object) -> dict:
    good = {'id': number, 'image_id': image_id, 'category_id': 5 + number % 2, 'area': 200}
    return {**good, 'bbox': [10, 20, 20, 10], **changes}


def found(coco: dict, classes: tuple[str, ...] | None = None) -> dict[str, Fault]:
    return {fault.what: fault for fault in read_contents(coco, classes).faults}


def run(*words: object) -> int | str | None:
    """The exit code of the command."""
    try:
        return check_dataset.main([str(word) for word in words])
    except SystemExit as end:  # argparse, with an error
        return end.code


def test_good_annotations_have_no_fault() -> None:
    contents = read_contents(scene(boxes=[{'image_id': 3}] * 3))
    assert contents.faults == [] and contents.num_empty == 0
    assert sorted(contents.counts) == [1] * 19 + [4]
    assert (contents.percentile(50), contents.percentile(99)) == (1, 4)
    assert contents.sizes == [(20, 10)] * 23
    assert contents.per_class == {'nut': 12, 'bolt': 11}


@pytest.mark.parametrize(
    ('change', 'what', 'case'),
    [
        ({'image_id': 77}, 'objects of an image that is not listed', 'object 100 of image 77'),
        ({'category_id': 9}, 'objects of unknown categories', 'image 0: category_id 9'),
        ({'bbox': [10, 20, 0.5, 10]}, 'boxes below one pixel', 'bbox [10, 20, 0.5, 10]'),
        ({'bbox': [10, 20, 5, -5]}, 'boxes below one pixel', 'bbox [10, 20, 5, -5]'),
        ({'area': 0}, 'boxes below one pixel or without area', 'object 100'),
        ({'bbox': [101, 20, 5, 5]}, 'boxes outside of their image', '5] in 100 x 80'),
        ({'bbox': [90, 20, 20, 5]}, 'boxes that reach out', '[90, 20, 20, 5] in 100 x 80'),
        ({'id': 3}, 'ids of several annotations', '3'),
        ({'bbox': [10, 20, 20, 10]}, 'boxes listed more than once', 'image 0: nut, bbox [10,'),
    ],
)
def test_faulty_objects_are_found(change: dict, what: str, case: str) -> None:
    ((title, fault),) = found(scene(boxes=[change])).items()
    assert what in title
    (shown,) = map(str, fault.cases)
    assert case in shown
    assert fault.error == (not title.startswith('boxes'))  # a single odd box is a warning


def test_one_box_in_ten_is_no_accident() -> None:
    """Corners taken for sizes, or coordinates in 0..1: the whole data set is wrong."""
    corners = scene(boxes=[{'bbox': [60 + i, 50, 90, 70]} for i in range(3)])
    (fault,) = found({**corners, 'annotations': corners['annotations'][3:]}).values()
    assert fault.error and 'not two corners' in fault.advice
    relative = scene(boxes=[{'bbox': [0.5, 0.5, 0.2, 0.1]}] * 3)
    (fault,) = found(relative).values()
    assert fault.error and 'not in 0..1' in fault.advice


def test_a_rounded_border_is_no_fault() -> None:
    assert not found(scene(boxes=[{'bbox': [80, 20, 20.9, 10]}]))


def test_crowds_and_other_categories_are_not_trained_on() -> None:
    contents = read_contents(scene(boxes=[{'iscrowd': 1}, {'ignore': 1}]), ('nut',))
    assert contents.num_crowds == 1  # the other one is a bolt
    assert sum(contents.counts) == 10 and contents.num_empty == 10
    (fault,) = contents.faults
    assert fault.cases == ['bolt: 11'] and not fault.error


def test_images_listed_twice_and_classes_without_objects_are_found() -> None:
    coco = scene()
    coco['images'].append(copy.deepcopy(coco['images'][0]))
    coco['categories'].append({'id': 1, 'name': 'washer'})
    faults = found(coco)
    assert faults['ids of several images'].cases == [0]
    assert faults['files listed as several images'].cases == ['0.jpg']
    assert faults['classes without an object to train on'].cases == ['washer']


def test_panoptic_segments_may_share_ids() -> None:
    coco = scene()
    segments = [{**a, 'id': 1} for a in coco['annotations']]
    coco['annotations'] = [{'image_id': s.pop('image_id'), 'segments_info': [s]} for s in segments]
    contents = read_contents(coco)
    assert contents.counts == [1] * 20
    assert not found(coco)


def test_images_are_read_as_in_training(tmp_path: Path) -> None:
    picture = Image.effect_noise((60, 40), 50)
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    picture.save(tmp_path / 'good.jpg')
    picture.save(tmp_path / 'turned.jpg', exif=turned)
    whole = (tmp_path / 'good.jpg').read_bytes()
    (tmp_path / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'text.jpg').write_text('no image')
    names = ('good', 'turned', 'cut', 'empty', 'text', 'gone')
    images = [{'file_name': f'{name}.jpg', 'width': 60, 'height': 40} for name in names]
    faults = {f.what: f for f in image_faults({'images': images}, tmp_path)}
    assert faults['images that are not there'].cases == ['gone.jpg']
    assert str(tmp_path) in faults['images that are not there'].advice
    unreadable = faults['images that cannot be read'].cases
    assert [case.split(':')[0] for case in unreadable] == ['cut.jpg', 'empty.jpg', 'text.jpg']
    assert 'truncated' in unreadable[0] and unreadable[1].endswith('no image, 0 bytes')
    size = faults['images of another size than the annotations say'].cases
    assert size == ['turned.jpg: 40 x 60, turned by EXIF, stated 60 x 40']
    assert all(fault.error for fault in faults.values())


@pytest.mark.parametrize(('content', 'got'), [(b'', 'error'), (b'text', 'Assertion'), (None, 'No')])
def test_training_names_the_image_that_it_cannot_read(
    content: bytes | None, got: str, tmp_path: Path
) -> None:
    file = tmp_path / 'bad.jpg'
    if content is not None:
        file.write_bytes(content)
    load = TRANSFORMS.build({'type': 'mmdetr_plugin.LoadImage'})
    with pytest.raises(ValueError, match=rf'bad.jpg must be an image, got .*{got}(?s:.*)lists all'):
        load({'img_path': str(file)})
    Image.effect_noise((60, 40), 50).save(file)
    assert load({'img_path': str(file)})['img'].shape == (40, 60, 3)


@pytest.mark.parametrize(
    ('config', 'number'),
    [
        ('detr_r50', 100),
        ('deformable_detr_two_stage_r50', 300),
        ('anchor_detr_r50', 900),
        ('dab_detr_r50_3pat', 900),
        ('dab_detr_r50', 300),
        ('baselines/faster_rcnn_r50_fpn_plus', None),
    ],
)
def test_queries_of_a_config_are_counted(config: str, number: int | None) -> None:
    cfg = Config.fromfile(ROOT / f'configs/{config}.py')
    assert check_dataset.number_of_queries(cfg.model) == number


def test_too_few_queries_are_told_with_the_remedy() -> None:
    contents = read_contents(scene(boxes=[{'image_id': 3}] * 120))
    (rare,) = check_dataset.query_faults(contents, 120)[:1]
    assert rare.cases == ['121 objects'] and not rare.error
    assert 'model.queries.num_queries=200 ' in rare.advice
    assert '(99 % of the images have up to 121)' in rare.what
    (many,) = check_dataset.query_faults(contents, 121)
    assert many.what == 'images with over 100 objects'
    (seldom,) = check_dataset.query_faults(Contents(counts=[1] * 199 + [9]), 5)
    assert seldom.what == 'images with more objects than the 5 queries'
    assert check_dataset.query_faults(read_contents(scene()), 1) == []


def test_a_config_with_good_data_passes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = [f'{split}_dataloader.dataset.data_root={folder}/' for split in ('train', 'val')]
    config = ROOT / 'configs/detr_r50.py'
    assert run(config, '--out', tmp_path, '--cfg-options', *options) == 0
    printed = capsys.readouterr().out
    assert 'objects an image  p50 1, p99 1, max 1' in printed
    assert 'queries           100' in printed
    assert 'classes without an object to train on' in printed
    assert printed.endswith('no errors\n')
    with Image.open(tmp_path / 'train.png') as picture:
        assert picture.size == (1300, 400)


def test_faulty_data_ends_with_1_and_all_of_it_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    root = f'train_dataloader.dataset.data_root={folder}/'
    classes = "train_dataloader.dataset.metainfo.classes=('person','unicorn')"
    prefix = 'train_dataloader.dataset.data_prefix.img=elsewhere/'
    words = ROOT / 'configs/detr_r50.py', '--splits', 'train', '--out', tmp_path, '--cfg-options'
    assert run(*words, root, classes, prefix) == 1
    printed = capsys.readouterr().out
    assert "got 2 classes, of which the file lacks 1: ['unicorn']" in printed
    assert '2  images that are not there' in printed
    assert f'looked for below {folder}/elsewhere' in printed
    assert run(*words[:-1], '--no-images', '--cfg-options', root, prefix) == 0
    assert 'images            2 (not read)' in capsys.readouterr().out


def test_a_file_without_a_config_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / 'some.json'
    file.write_text(json.dumps(scene(boxes=[{'category_id': 9}])))
    words = '--ann', file, '--no-images', '--num-queries', 7, '--out', tmp_path
    assert run(*words) == 1
    printed = capsys.readouterr().out
    assert '1  objects of unknown categories' in printed
    assert 'queries           7' in printed
    file.write_text('<annotation/>')
    assert run(*words) == 1
    assert 'must be a COCO file in JSON, got XML' in capsys.readouterr().out
    file.write_text(json.dumps({**scene(), 'annotations': []}))
    assert run(*words) == 1
    assert 'data that would end a run' in capsys.readouterr().out


def test_arguments_are_checked(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    assert run() == 2
    assert 'give either a config or --ann FILE' in capsys.readouterr().err
    assert run('--ann', 'some.json') == 2
    assert '--ann needs --images FOLDER' in capsys.readouterr().err
    assert run('--ann', tmp_path / 'gone.json', '--no-images') == 2
    assert 'gone.json' in capsys.readouterr().err
    voc = 'train_dataloader.dataset.type=VOCDataset'
    (tmp_path / 'trainval.txt').touch()
    file = f'train_dataloader.dataset.ann_file={tmp_path / "trainval.txt"}'
    words = ROOT / 'configs/detr_r50.py', '--splits', 'train', '--cfg-options', voc, file
    assert run(*words) == 2
    assert 'train_dataloader.dataset must be a CocoDataset, got VOC' in capsys.readouterr().err
