"""Models of mmdet and transformers with random weights, converted, give the outputs of ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import read_checkpoint, to_hf, to_ours, write_checkpoint
from mmdetr_plugin.checkpoints.layouts import get_layout, hf_layout
from mmdetr_plugin.testing import peers

SIZES = (pytest.param(True, id='small'), pytest.param(False, marks=pytest.mark.slow, id='full'))
CANVAS = (128, 160)
TOLERANCE = 1e-4
RANKED = ('dino_r50_mmdet', 'ddq_detr_r50')  # see test_convert_training.py


@pytest.fixture(autouse=True)
def plain_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers sample by grid_sample; compiling other kernels would only take time."""
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')


def batch(name: str = '') -> tuple[Tensor, list]:
    """A padded image and one that fills the canvas, with more tokens than there are queries; two of
    one size for the real-time models of transformers, which know no padding."""
    return tiny.batch(sizes=(CANVAS, CANVAS if name in peers.UNPADDED else (100, 130)))


def assert_close(got: dict[str, Tensor], logits: Tensor, boxes: Tensor) -> None:
    for ours, theirs in ((got['pred_logits'], logits), (got['pred_boxes'], boxes)):
        assert theirs.std() > 0.02  # not all the same
        assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize('small', SIZES)
@pytest.mark.parametrize('name', [name for name in peers.MMDET if name not in RANKED])
def test_mmdet(name: str, small: bool) -> None:
    peer, model = peers.mmdet_pair(name, small=small)
    images, samples = batch()
    with torch.no_grad():
        logits, boxes = peer(images, samples, mode='tensor')[:2]
        assert_close(model(images, samples, mode='tensor'), logits, boxes)


def test_dilated_stages_of_mmdet_are_not_torchvisions() -> None:
    """Why mmdet's DC5 weights need mmdet's backbone: it dilates one block more."""
    peer, model = peers.mmdet_pair('detr_dc5_r50', small=True)
    model.backbone.layer4[0].conv1.dilation = model.backbone.layer4[0].conv1.padding = (1, 1)
    images, samples = batch()
    with torch.no_grad():
        logits = peer(images, samples, mode='tensor')[0]
        other = model(images, samples, mode='tensor')['pred_logits']
    assert (other - logits).abs().max() > 100 * TOLERANCE


def run_hf(peer: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    images, samples = batch(name)
    mask = torch.zeros(len(images), *CANVAS, dtype=torch.long)
    for row, sample in zip(mask, samples):
        height, width = sample.img_shape
        row[:height, :width] = 1
    with torch.no_grad():
        out = peer(pixel_values=images, pixel_mask=mask)
    return out.logits, out.pred_boxes


@pytest.mark.slow
@pytest.mark.parametrize('small', [True, False], ids=['small', 'full'])
@pytest.mark.parametrize('name', peers.HF)
def test_transformers(name: str, small: bool, tmp_path: Path) -> None:
    peer, model = peers.hf_pair(name, small=small)
    with torch.no_grad():
        got = model(*batch(name), mode='tensor')
    assert_close({key: value[-1] for key, value in got.items()}, *run_hf(peer, name))
    if not small:
        return
    # What it saves has other names than what it holds, and tensors that are tied but once.
    peer.save_pretrained(tmp_path)
    state, layout, filled = to_ours(read_checkpoint(tmp_path / 'model.safetensors'), model)
    assert layout == 'hf'
    assert filled == []
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    assert set(state) == set(model.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize('name', peers.HF)
def test_transformers_reads_what_is_written(name: str, tmp_path: Path) -> None:
    """Ours to its names and its format: it loads every tensor and gives our outputs."""
    peer, model = peers.hf_pair(name, small=True)
    theirs = peer.state_dict()
    # The backbone is written by timm's names; these peers have the ResNet of transformers itself.
    from_file = get_layout(hf_layout(model)).from_file
    native = {next(iter(from_file({key: torch.empty(0)}))): key for key in theirs}
    written = {native[key]: value for key, value in to_hf(model.state_dict(), model).items()}
    assert set(written) == set(theirs)
    assert [key for key in theirs if not torch.equal(written[key], theirs[key])] == []
    # Class heads that a new model of theirs ties need not be equal.
    peers.randomise_(model, 1, peers.gain_of(name))
    written = {native[key]: value for key, value in to_hf(model.state_dict(), model).items()}
    peer.config.save_pretrained(tmp_path)
    write_checkpoint(written, tmp_path / 'model.safetensors')
    again, report = type(peer).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    logits, boxes = run_hf(again.eval(), name)
    with torch.no_grad():
        got = model(*batch(name), mode='tensor')
    assert_close({key: value[-1] for key, value in got.items()}, logits, boxes)
