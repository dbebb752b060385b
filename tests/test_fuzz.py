"""Random damage to annotation files, checkpoints, configs and images: our error, or it works.

`FUZZ_CASES=10000` runs that many cases of each in place of 200.
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_arguments
import tiny
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.registry import DefaultScope
from torch import nn

from mmdetr_plugin.checkpoints import read_checkpoint
from mmdetr_plugin.datasets.annotations import read_coco
from mmdetr_plugin.datasets.coco import CheckedCocoDataset
from mmdetr_plugin.datasets.faults import read_contents

CASES = int(os.environ.get('FUZZ_CASES', '200'))
fuzz = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 64),
    st.sampled_from((-1e30, -0.5, 0.0, 1e-9, 0.5, 1.5, 1e30, math.nan, math.inf, -math.inf)),
    st.sampled_from(('', '1', '2', '1.5', 'x', 'nan', 'a b', '../x', '\0', 'ä', '-1')),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.sampled_from('abc'), inner, max_size=2)
    ),
    max_leaves=6,
)


def is_ours(error: Exception) -> bool:
    return isinstance(error, (ValueError, FloatingPointError)) and (
        'must' in str(error) or ', got ' in str(error) or 'is left' in str(error)
    )


# ---- annotation files ----------------------------------------------------------------------------


def good() -> dict[str, list[dict[str, Any]]]:
    objects = [
        {'id': i, 'image_id': 1 + i % 2, 'category_id': 1 + i % 2, 'bbox': [2, 3, 10 + i, 8]}
        for i in range(1, 5)
    ]
    for one in objects:
        one.update(area=80.0, iscrowd=0, segmentation=[[2, 3, 12, 3, 12, 11]])
    images = [{'id': i, 'file_name': f'{i}.png', 'width': 48, 'height': 32} for i in (1, 2)]
    categories = [{'id': i, 'name': name} for i, name in ((1, 'nut'), (2, 'bolt'))]
    return {'images': images, 'annotations': objects, 'categories': categories}


@st.composite
def damaged_coco(draw: st.DrawFn) -> bytes:
    """One to three values are replaced, removed or repeated; the text may be cut or re-encoded."""
    coco: Any = good()
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(('images', 'annotations', 'categories')))
        records = coco.get(key)
        if not isinstance(records, list) or not records or draw(st.integers(0, 19)) == 0:
            coco[key] = draw(VALUES)
            continue
        i = draw(st.integers(0, len(records) - 1))
        record, act = records[i], draw(st.integers(0, 5))
        if act == 0:
            records.append(copy.deepcopy(record))
        elif act == 1 or not isinstance(record, dict):
            records[i] = draw(VALUES)
        else:
            field = draw(st.sampled_from(sorted(good()[key][0])))
            if act == 2:
                record.pop(field, None)
            else:
                record[field] = draw(VALUES)
    text = json.dumps(coco)
    encoding = draw(st.sampled_from(('utf-8', 'utf-8', 'utf-8-sig', 'utf-16', 'utf-32')))
    data = text.encode(encoding)
    return data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('fuzz')


@pytest.fixture(scope='module', autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        yield


@fuzz
@given(data=damaged_coco())
def test_annotation_files(folder: Path, data: bytes) -> None:
    """What is read has boxes that can be trained with, and the file is as it was."""
    file = folder / 'a.json'
    file.write_bytes(data)
    try:
        coco = read_coco(file)
        read_contents(coco, ('nut', 'bolt'))
        dataset = CheckedCocoDataset(
            ann_file=str(file), data_prefix={'img': '.'}, metainfo={'classes': ('nut', 'bolt')}
        )
    except ValueError as error:
        assert is_ours(error), repr(error)
    else:
        for i in range(len(dataset)):
            for instance in dataset.get_data_info(i)['instances']:
                assert all(math.isfinite(x) for x in instance['bbox'])
                assert instance['bbox_label'] in (0, 1)
    assert file.read_bytes() == data


# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def checkpoint(folder: Path) -> bytes:
    file = folder / 'good.pth'
    weights = {
        'a.weight': torch.arange(12.0).view(3, 4),
        'a.bias': torch.zeros(3, dtype=torch.half),
    }
    torch.save({'state_dict': weights, 'meta': {'epoch': 3, 'classes': ('a', 'b')}}, file)
    return file.read_bytes()


@fuzz
@given(
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=4),
    byte=st.integers(0, 255),
    act=st.sampled_from(('replace', 'flip', 'insert', 'remove', 'cut', 'swap')),
)
def test_checkpoints(
    folder: Path, checkpoint: bytes, places: list[float], byte: int, act: str
) -> None:
    data = bytearray(checkpoint)
    for place in places:
        i = int(place * len(data))
        if act == 'replace':
            data[i] = byte
        elif act == 'flip':
            data[i] ^= 1 << byte % 8
        elif act == 'insert':
            data[i:i] = bytes([byte]) * (1 + byte % 7)
        elif act == 'remove':
            del data[i : i + 1 + byte]
        elif act == 'cut':
            data = data[: i + 1]
        else:
            data[i : i + 8] = data[i : i + 8][::-1]
        if not data:
            data = bytearray(b'\0')
    file = folder / 'damaged.pth'
    file.write_bytes(data)
    try:
        assert isinstance(read_checkpoint(file), dict)
    except ValueError as error:
        assert is_ours(error), repr(error)


# ---- configs -------------------------------------------------------------------------------------

ARGUMENTS = {name: test_arguments.arguments(name) for name in ('detr_r50', 'dino_r50')}


@fuzz
@given(data=st.data(), name=st.sampled_from(sorted(ARGUMENTS)), value=VALUES)
def test_configs(data: st.DataObject, name: str, value: Any) -> None:
    argument = data.draw(st.sampled_from(ARGUMENTS[name]))
    test_arguments.try_value(argument, value, train=False)


# ---- images to predict on ------------------------------------------------------------------------


@pytest.fixture(scope='module')
def model() -> nn.Module:
    return tiny.build('detr_r50')


DTYPES = (torch.uint8, torch.float32, torch.float64, torch.float16, torch.int32, torch.uint16)
DTYPES += (torch.bool, torch.complex64, torch.bfloat16)


@fuzz
@given(
    shape=st.lists(st.integers(0, 40), min_size=0, max_size=4),
    channels=st.sampled_from((None, 1, 3, 3, 3, 4)),
    dtype=st.sampled_from(DTYPES),
    fill=st.sampled_from((0.0, 0.5, 1.0, 255.0, 300.0, -1.0, math.nan, math.inf)),
    named=st.booleans(),
)
def test_images(
    model: nn.Module,
    shape: list[int],
    channels: int | None,
    dtype: torch.dtype,
    fill: float,
    named: bool,
) -> None:
    shape = shape if channels is None else [channels, *shape[:2]]
    whole = not (dtype.is_floating_point or dtype.is_complex)
    fill = 7.0 if whole and not (math.isfinite(fill) and 0 <= fill <= 255) else fill
    image = torch.full(shape, fill).to(dtype)
    (sample,) = tiny.samples((0,), ((40, 40),))
    size = tuple(shape[-2:]) if len(shape) == 3 else (40, 40)
    sample.set_metainfo({'img_shape': size, 'ori_shape': size})
    sample.set_metainfo({'img_path': 'a.png'} if named else {})
    try:
        (found,) = model.test_step({'inputs': [image], 'data_samples': [sample]})
    except (ValueError, FloatingPointError) as error:
        assert is_ours(error), repr(error)
        return
    assert found.pred_instances.bboxes.isfinite().all()
    assert found.pred_instances.scores.isfinite().all()
