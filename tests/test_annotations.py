"""Annotation files that are not COCO are told apart, each by its own error."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from mmdet.datasets import CocoDataset

from mmdetr_plugin.datasets.annotations import (
    category_names,
    objects,
    read_category_names,
    read_coco,
    read_repaired,
)
from mmdetr_plugin.datasets.coco import CheckedCocoDataset

GOOD = {
    'images': [{'id': 7, 'file_name': '7.jpg', 'height': 64, 'width': 80}],
    'annotations': [
        {'id': 1, 'image_id': 7, 'category_id': 9, 'bbox': [1, 2, 30.5, 4], 'area': 122}
    ],
    'categories': [{'id': 9, 'name': 'nut'}, {'id': 4, 'name': 'bolt'}],
}


def write(folder: Path, content: object) -> Path:
    file = folder / 'some.json'
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding='utf-8')
    return file


def changed(path: str, value: object = None) -> dict:
    """GOOD with one entry replaced, or removed; ``path`` is 'images/0/id'."""
    coco = copy.deepcopy(GOOD)
    *way, last = (int(step) if step.isdigit() else step for step in path.split('/'))
    node = coco
    for step in way:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return coco


def test_classes_are_numbered_as_mmdet_numbers_them(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    names = category_names(read_coco(file))
    data = CocoDataset(
        ann_file=str(file), metainfo={'classes': names}, data_prefix={'img': ''}, pipeline=[]
    )
    assert names == read_category_names(file) == ('nut', 'bolt')
    assert data.cat2label == {9: 0, 4: 1}
    assert data.get_data_info(0)['instances'][0]['bbox_label'] == 0


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    assert read_category_names(file) == ('nut', 'bolt')
    write(tmp_path, changed('categories/1/name', 'screw'))
    assert read_category_names(file) == ('nut', 'screw')


def test_panoptic_segments_are_objects(tmp_path: Path) -> None:
    coco = copy.deepcopy(GOOD)
    (segment,) = coco['annotations']
    image = segment.pop('image_id')
    coco['annotations'] = [{'image_id': image, 'file_name': '7.png', 'segments_info': [segment]}]
    file = write(tmp_path, coco)
    assert list(objects(read_coco(file))) == [(7, {**segment, 'iscrowd': 0})]
    del segment['bbox']
    with pytest.raises(ValueError, match=r'object 0 of .* must have id, category_id, bbox, got'):
        read_coco(write(tmp_path, coco))


def test_files_of_test_images_have_no_annotations(tmp_path: Path) -> None:
    file = write(tmp_path, changed('annotations'))
    with pytest.raises(ValueError, match='images, annotations, categories, got keys'):
        read_coco(file)
    assert read_coco(file, annotated=False)['annotations'] == []


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        ('', 'in JSON, got an empty file; export it again'),
        ('<annotation><object/></annotation>', 'got XML; read Pascal VOC with mmdet.VOCDataset'),
        ('0 0.5 0.5 0.1 0.1\n', "in JSON, got '0 0.5 0.5 0.1 0.1"),
        (json.dumps(GOOD)[:-20], 'in JSON, got .*; export it again'),
        ([{'image_id': 7, 'score': 1}], 'got a list; predictions are stored as a list'),
        (changed('categories'), r"lists images, annotations, categories, got keys \['images', "),
        (changed('images', {'7': {}}), 'got images of type dict; export it as COCO'),
        (changed('images/0/height'), r'images\[0\] of .* must have .*; add height'),
        (changed('annotations/0', 'x'), r'annotations\[0\] of .* must have image_id, got x'),
        (changed('categories/0/name', 7), 'must have categories whose names are text, got .*7'),
        (changed('images/0/file_name', 7), r'images\[0\] of .* file_name that is text, got 7'),
        (changed('annotations/0/iscrowd', '0'), "must have iscrowd 0 or 1, got '0'; write"),
        (changed('annotations/0/image_id', [7]), 'must have ids that are numbers, and so'),
        (changed('annotations/0/bbox', [1, 2, 3]), r'four numbers, x, y, .*, got \[1, 2, 3\]'),
        (changed('annotations/0/bbox', [1, 2, float('nan'), 4]), 'got .*nan.*; correct it'),
        (changed('annotations/0/bbox', ['1', '2', '3', '4']), 'must have a bbox of four numbers'),
        (changed('annotations/0/area', 'large'), r"must have an area of one number, .*\['large'\]"),
        (changed('images/0/width', '80'), r"images\[0\] of .* two numbers, .*, got \['80', 64\]"),
        (changed('categories/1/name', 'nut'), "got name 'nut' 2 times; remove the category"),
        (changed('categories/1/id', 9), 'got id 9 2 times'),
        (changed('categories', []), 'got no category'),
    ],
)
def test_what_is_not_coco_is_told(content: object, text: str, tmp_path: Path) -> None:
    file = write(tmp_path, content)
    with pytest.raises(ValueError, match=text) as error:
        read_coco(file)
    assert re.search(re.escape(str(file)), str(error.value))


def test_binary_files_are_told(tmp_path: Path) -> None:
    file = tmp_path / 'some.json'
    file.write_bytes(b'\x80\x02}q\x00\xff\xfe')
    with pytest.raises(ValueError, match='must be a COCO file in JSON, got'):
        read_coco(file)


def test_what_tools_leave_out_is_repaired_in_memory(tmp_path: Path) -> None:
    """The file itself stays as it is."""
    coco = copy.deepcopy(GOOD)
    coco['annotations'] *= 3
    coco['annotations'] = [copy.deepcopy(a) for a in coco['annotations']]
    first, second, third = coco['annotations']
    first.update(id=0, area=0)
    second.update(id=2, area=None, iscrowd=None)
    third.update(id=3, iscrowd=1)
    file = write(tmp_path, coco)
    before = file.read_bytes()
    repaired, repairs = read_repaired(file)
    assert file.read_bytes() == before
    assert [a['id'] for a in repaired['annotations']] == [4, 2, 3]  # 0 is "no match"
    assert [a['area'] for a in repaired['annotations']] == [122, 122, 122]
    assert [a['iscrowd'] for a in repaired['annotations']] == [0, 0, 1]
    assert [repair.count for repair in repairs] == [1, 2, 2]
    assert not read_repaired(write(tmp_path, {**repaired}))[1]


@pytest.mark.parametrize(
    ('ids', 'expected'),
    [
        (('7', '8'), [7, 8]),
        ((7.0, 8), [7, 8]),
        (('a.jpg', 'b.jpg'), [1, 2]),
        ((2**60, 8), [1, 2]),
        ((None, 7), None),
        (('7', 7), None),
    ],
)
def test_ids_of_images_become_numbers(
    ids: tuple, expected: list[int] | None, tmp_path: Path
) -> None:
    """References follow; equal numbers are refused."""
    coco = copy.deepcopy(GOOD)
    coco['images'] = [{**GOOD['images'][0], 'id': i, 'file_name': f'{i}.jpg'} for i in ids]
    coco['annotations'][0]['image_id'] = ids[1]
    file = write(tmp_path, coco)
    if expected is None:
        with pytest.raises(ValueError, match='must have ids that'):
            read_coco(file)
        return
    read = read_coco(file)
    assert [image['id'] for image in read['images']] == expected
    assert read['annotations'][0]['image_id'] == expected[1]


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / 'some.json'
    file.write_bytes(json.dumps(GOOD).encode(encoding))
    assert category_names(read_coco(file)) == ('nut', 'bolt')
    assert CheckedCocoDataset.COCOAPI(file).imgs.keys() == {7}


def test_nesting_does_not_end_the_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='must be a COCO file in JSON, got'):
        read_coco(write(tmp_path, '[' * 100_000))
