"""DEIMv2: its adapter, rotary codes, and the outputs of transformers' model with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from mmdetr_plugin.checkpoints import read_checkpoint, to_hf, to_official, to_ours, write_checkpoint
from mmdetr_plugin.testing.deimv2_peers import as_published_, deimv2_pair
from mmdetr_plugin.testing.peers import randomise_

SIZES = (pytest.param(True, id='small'), pytest.param(False, marks=pytest.mark.slow, id='full'))
CANVAS = (128, 192)
TOLERANCE = 1e-4
NAME = 'deimv2_s'


@pytest.fixture(autouse=True)
def plain_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer samples by grid_sample; compiling other kernels would only take time."""
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')


def assert_equal_outputs(peer: nn.Module, model: nn.Module) -> None:
    images, samples = tiny.batch(sizes=(CANVAS, CANVAS))
    with torch.no_grad():
        out = as_published_(peer).eval()(pixel_values=images)
        got = model.eval()(images, samples, mode='tensor')
    pairs = {
        'pred_logits': (got['pred_logits'][-1], out.logits),
        'pred_boxes': (got['pred_boxes'][-1], out.pred_boxes),
        'enc_logits': (got['enc_logits'], out.enc_topk_logits),
        'enc_boxes': (got['enc_boxes'], out.enc_topk_bboxes),
    }
    for key, (ours, theirs) in pairs.items():
        assert theirs.std() > 0.02, key  # not all the same
        assert (ours - theirs).abs().max() <= TOLERANCE, key


@pytest.mark.parametrize('small', SIZES)
def test_outputs_of_transformers(small: bool) -> None:
    assert_equal_outputs(*deimv2_pair(NAME, small=small))
