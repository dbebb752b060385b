"""What people hand to a detector: it works, or one sentence says what must hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmdet.apis import inference_detector
from mmengine.registry import DefaultScope
from PIL import Image
from torch import nn

from mmdetr_plugin.inputs import prepare
from mmdetr_plugin.registry import MODELS

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
PIXELS = np.stack([np.linspace(20, 230, 64).round().astype(np.uint8)] * 48)
COLOUR = np.stack((PIXELS, PIXELS // 2, 255 - PIXELS), -1)


@pytest.fixture(scope='module', autouse=True)
def scope() -> Iterator[None]:
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        yield


@pytest.fixture(scope='module')
def detector(scope: None) -> nn.Module:
    """As mmdet's `init_detector` makes one."""
    cfg = tiny.load('detr_r50')
    cfg.model = tiny.shrink(cfg.model)
    model = tiny.randomise_(MODELS.build(cfg.model)).eval()
    model.cfg = cfg
    model.cfg.default_scope = 'mmdetr_plugin'
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (96, 64)
    return model


def boxes(model: nn.Module, image: object) -> torch.Tensor:
    return inference_detector(model, image).pred_instances.bboxes


@pytest.fixture(scope='module')
def expected(detector: nn.Module) -> torch.Tensor:
    return boxes(detector, COLOUR)


def test_the_same_picture_in_any_form(
    detector: nn.Module, expected: torch.Tensor, tmp_path: Path
) -> None:
    """A path, a file with an alpha channel, a picture of Pillow, 16 bits, another order of calls."""
    rgb = Image.fromarray(np.ascontiguousarray(COLOUR[..., ::-1]))
    rgb.save(tmp_path / 'rgb.png')
    rgb.convert('RGBA').save(tmp_path / 'rgba.png')
    forms = {
        'array': COLOUR,
        'path': str(tmp_path / 'rgb.png'),
        'path object': tmp_path / 'rgb.png',
        'alpha': str(tmp_path / 'rgba.png'),
        'Pillow': rgb,
        'Pillow, RGBA': rgb.convert('RGBA'),
        'float': COLOUR.astype(np.float32),
        '16 bits': COLOUR.astype(np.uint16) * 257,
    }
    for name, form in forms.items():
        got = boxes(detector, form)
        assert torch.allclose(got, expected, atol=1e-2), name
    for batch in ([COLOUR] * 2, [str(tmp_path / 'rgb.png')] * 2, [rgb, COLOUR], (COLOUR,)):
        found = inference_detector(detector, batch)
        assert len(found) == len(batch)
        for one in found:
            assert torch.allclose(one.pred_instances.bboxes, expected, atol=1e-2)


def test_grey_is_three_equal_channels(detector: nn.Module) -> None:
    three = boxes(detector, np.stack((PIXELS,) * 3, -1))
    for grey in (
        PIXELS,
        PIXELS[..., None],
        Image.fromarray(PIXELS),
        PIXELS.astype(np.uint16) * 257,
    ):
        assert torch.allclose(boxes(detector, grey), three, atol=1e-2)


def test_sixteen_bits_of_a_file_are_kept(detector: nn.Module, tmp_path: Path) -> None:
    Image.fromarray(PIXELS.astype(np.uint16) * 257).save(tmp_path / 'deep.png')
    three = boxes(detector, np.stack((PIXELS,) * 3, -1))
    assert torch.allclose(boxes(detector, str(tmp_path / 'deep.png')), three, atol=1e-2)


@pytest.mark.parametrize(
    ('image', 'text'),
    [
        (
            COLOUR.astype(np.float32) / 255,
            r'from 0 to 255, got numbers from .* to 0.9.*; multiply by 255',
        ),
        (COLOUR.astype(np.float64) / 255, r'from 0 to 255, got numbers from'),
        (
            COLOUR.astype(np.float32) / 128 - 1,
            r'from 0 to 255, got -0.9.* before any normalisation',
        ),
        (COLOUR.astype(np.float32) * 257, r'from 0 to 255, got '),
        (COLOUR.astype(np.float32) * np.nan, r'from 0 to 255, got nan'),
        (
            np.dstack((COLOUR, PIXELS)),
            r'3 channels, or 1 if it is grey, got 4; leave out the alpha',
        ),
        (np.dstack((PIXELS, PIXELS)), r'3 channels, or 1 if it is grey, got 2'),
        (Image.fromarray(PIXELS.astype(np.int32)), r"8 bits a channel, got mode 'I'"),
        (torch.zeros(3, 48, 64), r'a path, an array or a picture of Pillow, got Tensor'),
        (7, r'a path, an array or a picture of Pillow, got int'),
        (None, r'a path, an array or a picture of Pillow, got NoneType'),
        (b'x', r'a path, an array or a picture of Pillow, got bytes'),
        ('gone.png', r'gone.png must be an image, got FileNotFoundError'),
    ],
)
def test_what_is_no_image_is_refused(detector: nn.Module, image: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        inference_detector(detector, image)


def test_the_config_of_a_model_is_a_copy(detector: nn.Module) -> None:
    """mmdet's `inference_detector` writes into what it gets."""
    detector.cfg.test_dataloader.dataset.pipeline[0].type = 'X'
    assert detector.cfg.test_dataloader.dataset.pipeline[0].type == 'mmdetr_plugin.LoadImage'


def test_no_image_at_all(detector: nn.Module) -> None:
    with pytest.raises(ValueError, match='at least one image, got none'):
        detector.test_step({'inputs': [], 'data_samples': []})
    with pytest.raises(ValueError, match='must have pixels, got shape'):
        prepare({'inputs': [torch.zeros(3, 0, 9)]})
    with pytest.raises(ValueError, match=r'must be a tensor .* got shape \(4, 5\)'):
        prepare({'inputs': [torch.zeros(4, 5)]})
    with pytest.raises(ValueError, match=r'must be a tensor .* got ndarray'):
        prepare({'inputs': [COLOUR]})


def test_a_batch_without_samples(detector: nn.Module) -> None:
    """It has no padding and is in its original size."""
    images, samples = tiny.batch((1, 1), (tiny.CANVAS, tiny.CANVAS))
    for sample in samples:
        sample.set_metainfo({'ori_shape': tiny.CANVAS})
    with torch.no_grad():
        alone, expected = (
            detector(images, mode='predict'),
            detector(images, samples, mode='predict'),
        )
    for one, other in zip(alone, expected):
        assert torch.equal(one.pred_instances.bboxes, other.pred_instances.bboxes)


@pytest.mark.parametrize('mode', ['tensor', 'predict', 'loss'])
@pytest.mark.parametrize(
    ('images', 'text'),
    [
        (
            torch.zeros(3, 64, 96),
            r'\(batch, 3, height, width\), got shape \(3, 64, 96\); one image is',
        ),
        (torch.zeros(1, 1, 64, 96), r'\(batch, 3, height, width\), got shape'),
        (torch.zeros(0, 3, 64, 96), r'must have pixels, got shape'),
        (torch.zeros(1, 3, 64, 96, dtype=torch.uint8), r'normalised numbers .* got torch.uint8'),
        (torch.zeros(1, 3, 64, 96, dtype=torch.half), r'torch.float16; .* torch.autocast'),
        (torch.zeros(1, 3, 64, 96, dtype=torch.float64), r'torch.float32, got torch.float64'),
        ([torch.zeros(3, 64, 96)], r'\(batch, 3, height, width\), got list'),
    ],
)
def test_batches_that_cannot_be(detector: nn.Module, mode: str, images: object, text: str) -> None:
    samples = tiny.samples((1,) * len(images), (tiny.CANVAS,) * len(images)) if len(images) else []
    with pytest.raises(ValueError, match=text):
        detector(images, samples, mode=mode)


def test_a_model_of_one_channel() -> None:
    cfg = tiny.shrink(tiny.load('detr_r50').model)
    cfg.backbone.in_channels = 1
    cfg.data_preprocessor.update(mean=[120.0], std=[60.0], bgr_to_rgb=False)
    model = MODELS.build(cfg).eval()
    (sample,) = tiny.samples((0,), (tiny.CANVAS,))
    for image in (torch.zeros(1, *tiny.CANVAS), torch.zeros(1, *tiny.CANVAS, dtype=torch.uint8)):
        (found,) = model.test_step({'inputs': [image], 'data_samples': [sample]})
        assert found.pred_instances.bboxes.isfinite().all()
    with pytest.raises(ValueError, match='must have 1 channels, got 4'):
        model.test_step({'inputs': [torch.zeros(4, 8, 8)], 'data_samples': [sample]})


def test_weights_of_sixteen_bits_predict_but_are_not_trained() -> None:
    model = tiny.build('detr_r50').half()
    (sample,) = model(torch.zeros(1, 3, 64, 96), mode='predict')
    assert sample.pred_instances.scores.isfinite().all()
    with pytest.raises(ValueError, match=r'weights, torch.float16, got torch.float32; .*autocast'):
        model(torch.zeros(1, 3, 64, 96), tiny.samples((1,), (tiny.CANVAS,)), mode='loss')


def test_losses_need_samples(detector: nn.Module) -> None:
    images, samples = tiny.batch()
    with pytest.raises(ValueError, match='a sample for each of the 2 images, got none'):
        detector(images, mode='loss')
    with pytest.raises(ValueError, match='a sample for each of the 2 images, got 1'):
        detector(images, samples[:1], mode='loss')
    del samples[1].gt_instances
    with pytest.raises(ValueError, match=r'gt_instances in every sample, but samples \[1\]'):
        detector(images, samples, mode='loss')
