"""transformers' LW-DETR and RF-DETR, converted from random weights: outputs, losses and gradients.

Outputs are compared as they are computed; losses and gradients in double precision, see
test_convert_training.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peer_files import read_by_transformers
from torch import Tensor, nn

from mmdetr_plugin import DETR
from mmdetr_plugin.checkpoints import read_checkpoint, to_official, to_ours
from mmdetr_plugin.criterion import Targets
from mmdetr_plugin.testing.peers import randomise_
from mmdetr_plugin.testing.vit_peers import vit_pair

TWO_LEVELS = {'num_levels': 2, 'neck.scales': (2.0, 0.5)}
SMALL = [
    ('lw_detr_tiny', {}),
    ('lw_detr_small', TWO_LEVELS),
    ('rf_detr_small', {}),
    ('rf_detr_base', {}),
]
FULL = ['lw_detr_tiny', 'lw_detr_medium', 'rf_detr_nano', 'rf_detr_base']
CANVAS = 128
TOLERANCE = 1e-4  # of outputs; of losses and gradients a hundredth of it, relative
TERMS = {'ce': ('cls', 1), 'bbox': ('bbox', 5), 'giou': ('iou', 2)}
"""Terms of transformers' loss: ours, and the weight that ours contains."""


@pytest.fixture(autouse=True)
def plain_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peers sample by grid_sample; compiling other kernels would only take time."""
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')


@pytest.fixture
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also of the shares of an image that are no padding, which are in single precision."""
    embed = DETR.embed

    def exact(*args: object) -> Any:
        memory = embed(*args)
        return replace(memory, valid_ratios=memory.valid_ratios.double())

    monkeypatch.setattr(DETR, 'embed', exact)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch(side: int = CANVAS, counts: tuple[int, int] = (3, 2)) -> tuple[Tensor, list, Tensor]:
    """An image that fills the square canvas and a padded one; transformers' mask of the pixels."""
    images, samples = tiny.batch(counts, ((side, side), (side * 3 // 4, side * 7 // 8)))
    mask = torch.zeros(len(images), side, side, dtype=torch.long)
    for row, sample in zip(mask, samples):
        height, width = sample.img_shape
        row[:height, :width] = 1
        sample.gt_instances.bboxes = sample.gt_instances.bboxes.round()
    return images.to(torch.get_default_dtype()), samples, mask


def assert_equal_outputs(peer: nn.Module, model: nn.Module, side: int = CANVAS) -> None:
    images, samples, mask = batch(side)
    with torch.no_grad():
        out = peer.eval()(pixel_values=images, pixel_mask=mask)
        got = model.eval()(images, samples, mode='tensor')
    pairs = {
        'pred_logits': (got['pred_logits'][-1], out.logits),
        'pred_boxes': (got['pred_boxes'][-1], out.pred_boxes),
        'enc_logits': (got['enc_logits'], out.enc_outputs_class),
        'enc_boxes': (got['enc_boxes'], out.enc_outputs_coord_logits),
    }
    for key, (ours, theirs) in pairs.items():
        assert theirs.std() > 0.02, key  # not all the same
        assert (ours - theirs).abs().max() <= TOLERANCE, key


@pytest.mark.parametrize(('name', 'changes'), SMALL)
def test_outputs(name: str, changes: dict) -> None:
    assert_equal_outputs(*vit_pair(name, small=True, **changes))


@pytest.mark.slow
@pytest.mark.parametrize('name', FULL)
def test_outputs_at_full_size(name: str) -> None:
    assert_equal_outputs(*vit_pair(name), side=448 if name == 'rf_detr_base' else 384)


@pytest.mark.usefixtures('double_precision')
@pytest.mark.parametrize('counts', [(3, 2), (0, 2)])
@pytest.mark.parametrize('name', ['lw_detr_tiny', 'rf_detr_small'])
def test_losses_and_gradients_of_all_groups(name: str, counts: tuple[int, int]) -> None:
    peer, model = (m.double().train() for m in vit_pair(name, small=True))
    images, samples, mask = batch(counts=counts)
    targets = Targets.from_samples(samples, 80)
    labels = [
        {'class_labels': label, 'boxes': box.double()}
        for label, box in zip(targets.labels, targets.boxes)
    ]
    out = peer(pixel_values=images, pixel_mask=mask, labels=labels)
    losses = model.loss(images, samples)
    ours = {key: value for key, value in losses.items() if 'loss' in key}
    theirs = {our_name(key): value for key, value in out.loss_dict.items() if 'loss' in key}
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        weight = dict(TERMS.values())[key.rpartition('_')[2]]
        assert ours[key].item() == pytest.approx(weight * value.item(), rel=1e-6), key
    out.loss.backward()
    sum(ours.values()).backward()
    grads = {name: p.grad for name, p in peer.named_parameters() if p.grad is not None}
    expected = to_ours(grads, model)[0]
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert set(trained) == set(expected)
    for key, value in expected.items():
        difference = torch.linalg.vector_norm(trained[key] - value)
        assert difference <= 0.01 * TOLERANCE * torch.linalg.vector_norm(value) + 1e-9, key


def our_name(key: str) -> str:
    """Of a loss of transformers: ``loss_giou_0`` is ``d0.loss_iou``."""
    _, term, *layer = key.split('_')
    prefix = '' if not layer else 'enc_' if layer[0] == 'enc' else f'd{layer[0]}.'
    return f'{prefix}loss_{TERMS[term][0]}'


@pytest.mark.parametrize('name', ['lw_detr_tiny', 'rf_detr_small'])
def test_files_of_transformers(name: str, tmp_path: Path) -> None:
    """RF-DETR's are written by the names of the official repository."""
    peer, model = vit_pair(name, small=True)
    peer.save_pretrained(tmp_path)
    saved = read_checkpoint(tmp_path / 'model.safetensors')
    other = randomise_(vit_pair(name, small=True)[1], seed=1)
    state, layout, filled = to_ours(saved, other)
    assert (layout, filled) == ('official' if name.startswith('rf') else 'hf', [])
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())


@pytest.mark.parametrize('name', ['lw_detr_tiny', 'rf_detr_small'])
def test_transformers_reads_what_is_written(name: str, tmp_path: Path) -> None:
    peer, model = vit_pair(name, small=True)
    randomise_(model, seed=1)
    assert_equal_outputs(read_by_transformers(peer, model, tmp_path), model)


def test_the_token_of_the_pretraining_is_no_parameter_of_ours() -> None:
    peer, model = vit_pair('rf_detr_small', small=True)
    for state in (peer.state_dict(), to_official(model.state_dict(), model)):
        (name,) = (name for name in state if name.endswith('embeddings.mask_token'))
        assert set(to_ours(state, model)[0]) == set(model.state_dict())
        state.pop(name)  # a file need not have it
        assert set(to_ours(state, model)[0]) == set(model.state_dict())


def test_queries_of_all_groups_are_one_tensor_in_files() -> None:
    peer, model = vit_pair('lw_detr_tiny', small=True)
    written = to_official(model.state_dict(), model)
    groups = [source.content.weight for source in model.queries.queries]
    assert torch.equal(written['query_feat.weight'], torch.cat(groups))
    assert torch.equal(written['query_feat.weight'], peer.model.query_feat.weight)
    written['refpoint_embed.weight'] = written['refpoint_embed.weight'][:-1]
    with pytest.raises(ValueError, match=r'rows for each of 13 groups of queries, got 259 rows'):
        to_ours(written, model)
