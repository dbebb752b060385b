"""DEIMv2: its parts by their formulas, and transformers' model with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from peer_files import read_by_transformers
from torch import nn
from torch.nn import functional as F

from mmdetr_plugin.backbones import SpatialTuningAdapter, WindowedViT
from mmdetr_plugin.checkpoints import read_checkpoint, to_official, to_ours, write_checkpoint
from mmdetr_plugin.checkpoints.pretrained import fetch_nothing_
from mmdetr_plugin.deployment import fold_for_deployment_
from mmdetr_plugin.ops.norms import token_norm
from mmdetr_plugin.ops.rotary import rotary_codes, rotary_periods, rotate
from mmdetr_plugin.positions.queries import MLPPosition
from mmdetr_plugin.queries import EncoderProposals
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import LogitReference, State
from mmdetr_plugin.testing.deimv2_peers import as_published_, deimv2_pair
from mmdetr_plugin.testing.peers import randomise_
from mmdetr_plugin.transformer import CSPRepBlock, GatedFeedForward, HybridEncoder, RepNCSPELAN4

SIZES = (pytest.param(True, id='small'), pytest.param(False, marks=pytest.mark.slow, id='full'))
CANVAS = (128, 192)
TOLERANCE = 1e-4
NAME = 'deimv2_s'
VIT = dict(type='WindowedViT', embed_dims=16, depth=3, num_heads=2, patch_size=16, windows=1)
VIT.update(global_blocks=(), out_indices=(0, 1, 2), grid_size=None, class_token=True)


@pytest.fixture(autouse=True)
def plain_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer samples by grid_sample; compiling other kernels would only take time."""
    monkeypatch.setattr('mmdetr_plugin.ops.deformable.choose_backend', lambda value: 'grid')


# ---- transformers' model, with what it does in another way than the authors put right -------------


def assert_equal_outputs(peer: nn.Module, model: nn.Module) -> None:
    images, samples = tiny.batch(sizes=(CANVAS, CANVAS))
    with torch.no_grad():
        out = as_published_(peer).eval()(pixel_values=images)
        got = model.eval()(images, samples, mode='tensor')
    last = (got['pred_logits'][-1], got['pred_boxes'][-1], got['enc_logits'], got['enc_boxes'])
    expected = (out.logits, out.pred_boxes, out.enc_topk_logits, out.enc_topk_bboxes)
    for ours, theirs in zip(last, expected, strict=True):
        assert theirs.std() > 0.02  # not all the same
        assert (ours - theirs).abs().max() <= TOLERANCE


@pytest.mark.parametrize('small', SIZES)
def test_outputs(small: bool) -> None:
    assert_equal_outputs(*deimv2_pair(NAME, small=small))


def test_files_of_transformers(tmp_path: Path) -> None:
    """What is saved has fewer names than the model; a bias of the keys is missing in older files."""
    peer, model = deimv2_pair(NAME, small=True)
    peer.save_pretrained(tmp_path)
    saved = read_checkpoint(tmp_path / 'model.safetensors')
    state, layout, filled = to_ours(saved, randomise_(deimv2_pair(NAME, small=True)[1], seed=1))
    assert (layout, filled) == ('hf', [])
    assert set(state) == set(model.state_dict())
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in state.items())
    without = {k: v for k, v in saved.items() if not k.endswith('attention.k_proj.bias')}
    assert len(without) < len(saved)
    bias = to_ours(without, model)[0]['backbone.vit.blocks.0.attn.qkv.bias']
    query, key, value = model.backbone.vit.blocks[0].attn.qkv.bias.detach().chunk(3)
    assert torch.equal(bias, torch.cat((query, torch.zeros_like(key), value)))


def test_transformers_reads_what_is_written(tmp_path: Path) -> None:
    peer, model = deimv2_pair(NAME, small=True)
    randomise_(model, seed=1)
    assert_equal_outputs(read_by_transformers(peer, model, tmp_path), model)


@pytest.mark.parametrize(
    'name', ['model.enc_output.0.weight', 'model.conv_encoder.backbone.norm.bias']
)
def test_what_only_transformers_trains_is_refused(name: str) -> None:
    peer, model = deimv2_pair(NAME, small=True)
    state = peer.state_dict()
    state[name] = state[name] + 0.1
    with pytest.raises(ValueError, match=f'{name} must have its initial value'):
        to_ours(state, model)


def test_official_files_as_safetensors_hold_what_is_tied_once() -> None:
    model = tiny.build(NAME)
    official = to_official(model.state_dict(), model)
    for name in (
        'backbone.dinov3._model.blocks.1.attn.qkv.bias',
        'backbone.dinov3._model.rope_embed.periods',
        'backbone.sta.conv3.2.running_mean',
        'backbone.norms.2.weight',
        'encoder.pan_blocks.1.cv3.0.bottlenecks.0.conv2.conv.weight',
        'decoder.decoder.layers.0.swish_ffn.w12.weight',
        'decoder.decoder.layers.1.gateway.norm.scale',
        'decoder.decoder.layers.1.norm3.scale',
    ):
        assert name in official, name
    assert torch.equal(official.pop('decoder.up'), official['decoder.decoder.up'])
    official['decoder.valid_mask'] = torch.ones(1)  # it follows from the size of the picture
    state = to_ours(official, model)[0]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_published_size() -> None:
    """9.7 million: of what is deployed, without the parts that only training needs."""
    cfg = tiny.load(NAME)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        model = fold_for_deployment_(MODELS.build(cfg.model))
    last = model.decoder.eval_layer
    for parts in (model.head.class_branches, model.head.quality):
        for i in range(last):
            parts[i] = nn.Identity()
    names = [n for n, _ in model.named_parameters() if n.endswith('labels.weight')]
    assert len(names) == 1  # of the denoising queries
    assert (
        round(sum(p.numel() for n, p in model.named_parameters() if n not in names) / 1e6, 1) == 9.7
    )


def test_weights_are_not_fetched_to_be_overwritten() -> None:
    backbone = tiny.load(NAME).model.backbone
    backbone.vit.init_cfg = dict(type='PretrainedPart', checkpoint='absent.pth', layout='deimv2')
    fetch_nothing_(backbone)
    assert backbone.vit.init_cfg is None and backbone.init_cfg is None


def test_weights_of_the_vit_alone(tmp_path: Path) -> None:
    """By the names of the file from which the authors start."""
    size = {k: v for k, v in VIT.items() if k != 'type'}
    source = randomise_(WindowedViT(**size))
    renamed = {'class_token': 'cls_token', 'patch_embed': 'patch_embed.proj'}
    renamed |= {'linear1': 'fc1', 'linear2': 'fc2'}
    state = {'rope_embed.periods': torch.ones(1)}
    for name, value in source.state_dict().items():
        state['.'.join(renamed.get(part, part) for part in name.split('.'))] = value
    file = tmp_path / 'vit.pth'
    write_checkpoint(state, file)
    cfg = dict(type='PretrainedPart', checkpoint=str(file), layout='deimv2')
    vit = WindowedViT(**size, init_cfg=cfg)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        vit.init_weights()
        assert all(torch.equal(v, source.state_dict()[k]) for k, v in vit.state_dict().items())
        write_checkpoint({k: v for k, v in state.items() if k != 'cls_token'}, file)
        with pytest.raises(
            ValueError, match=r"layout 'deimv2', but lacks cls_token; give the file"
        ):
            WindowedViT(**size, init_cfg=cfg).init_weights()


# ---- parts ------------------------------------------------------------------------------------------


def test_rotary_codes_turn_by_the_distance_of_cells() -> None:
    """Scores of equal contents depend on how far cells lie apart, not on where they are."""
    codes = rotary_codes(3, 5, 8, 100.0, 1, torch.device('cpu'))
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 8, generator=generator).expand(2, 16, 8)
    turned = rotate(query, codes)
    torch.testing.assert_close(turned[0], query[0])  # the token without a place
    torch.testing.assert_close(turned.norm(dim=-1), query.norm(dim=-1))
    scores = (turned @ rotate(key, codes).T)[1:, 1:].view(3, 5, 3, 5)
    torch.testing.assert_close(scores[0, 1, 1, 3], scores[1, 2, 2, 4])
    torch.testing.assert_close(scores[2, 3, 0, 3], scores[2, 0, 0, 0])
    assert (scores[0, 0, 0, 1] - scores[0, 0, 1, 0]).abs() > 1e-3


def test_rotary_codes_by_the_formula() -> None:
    """The halves of the channels are the two parts of a complex number; rows come first."""
    torch.testing.assert_close(rotary_periods(8, 100.0), torch.tensor([1.0, 10.0]))
    cos, sin = rotary_codes(2, 4, 8, 100.0, 0, torch.device('cpu'))
    row, column = 0.5, -0.25  # of the middle of cell (1, 1), from -1 to 1
    angles = 2 * torch.pi * torch.tensor([row, row / 10, column, column / 10])
    torch.testing.assert_close(cos[5], angles.cos().repeat(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(sin[5], angles.sin().repeat(2), rtol=0, atol=1e-6)
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.complex(x[5, :4], x[5, 4:]) * torch.polar(torch.ones(4), angles)
    torch.testing.assert_close(
        rotate(x, (cos, sin))[5], torch.cat((expected.real, expected.imag)), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize('options', [{'windows': 2}, {'embed_dims': 12}])
def test_rotary_codes_need_one_window_and_pairs_of_channels(options: dict) -> None:
    size = {k: v for k, v in {**VIT, **options}.items() if k != 'type'}
    with pytest.raises(ValueError, match=r'rotary codes need backbone\.windows=1'):
        WindowedViT(**size)


def test_adapter_joins_maps_of_the_vit_and_details() -> None:
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        adapter = randomise_(SpatialTuningAdapter(VIT, channels=4)).eval()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps, plain = adapter(images), adapter.vit(images)
    sizes = [(8, 12), (4, 6), (2, 3)]
    assert [tuple(x.shape[1:]) for x in maps] == list(
        zip(adapter.out_channels, *zip(*sizes), strict=True)
    )
    assert torch.equal(maps[1][:, :16], plain[1])
    torch.testing.assert_close(maps[2][:, :16], F.avg_pool2d(plain[2], 2))  # bilinear, to the half
    stem = F.max_pool2d(adapter.stem(images), 3, 2, padding=1)
    first = adapter.stages[0](stem)
    assert torch.equal(maps[0][:, 16:], first)
    assert torch.equal(maps[1][:, 16:], adapter.stages[1](F.gelu(first)))


def test_adapter_needs_three_maps() -> None:
    with (
        DefaultScope.overwrite_default_scope('mmdetr_plugin'),
        pytest.raises(ValueError, match=r'must give three maps, got 1; change .*out_indices'),
    ):
        SpatialTuningAdapter({**VIT, 'out_indices': (2,)})


def test_layers_share_the_first_position() -> None:
    position, each = (randomise_(MLPPosition(8, shared=shared)) for shared in (True, False))
    state = State(torch.zeros(1, 3, 8), None, LogitReference(torch.randn(1, 3, 4)))
    first = position(state, None, 0)
    assert torch.equal(first.pos, each(state, None, 0).pos)
    moved = State(first.content, first.pos, LogitReference(torch.randn(1, 3, 4)))
    assert torch.equal(position(moved, None, 1).pos, first.pos)
    assert not torch.allclose(each(moved, None, 1).pos, first.pos)


def test_norm_without_a_mean() -> None:
    norm = randomise_(token_norm('RMS', 8))
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)) + 1
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
    torch.testing.assert_close(norm(x), expected)
    assert norm(x.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match="norm must be 'LN' or 'RMS', got 'BN'"):
        token_norm('BN', 8)


def test_gated_feed_forward_part() -> None:
    ffn = randomise_(GatedFeedForward(8, 6, dropout=0.0))
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    gate, value = (F.linear(x, w, b) for w, b in zip(*halves(ffn.enter), strict=True))
    torch.testing.assert_close(ffn(x), ffn.leave(gate * gate.sigmoid() * value))


def halves(linear: nn.Linear) -> tuple[tuple, tuple]:
    return linear.weight.chunk(2), linear.bias.chunk(2)


def test_proposals_from_the_tokens_themselves() -> None:
    plain = EncoderProposals(4, 8, score='best_class', content='selected', projected=False)
    names = {name for name, _ in plain.named_parameters()}
    assert not any(name.startswith('output') for name in names)


# ---- the encoder's convolutions ---------------------------------------------------------------------


def test_one_convolution_for_both_paths() -> None:
    joined = randomise_(CSPRepBlock(6, 4, num_blocks=1, joined=True)).eval()
    apart = CSPRepBlock(6, 4, num_blocks=1).eval()
    state = {}
    for name, value in joined.state_dict().items():
        if name.startswith('conv1.') and value.dim():
            state[name.replace('conv1', 'conv2')], state[name] = value.chunk(2)
        else:
            state[name] = value
    assert not apart.load_state_dict(state, strict=False).unexpected_keys
    x = torch.randn(2, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(joined(x), apart(x))


def test_block_without_smoothing() -> None:
    block = RepNCSPELAN4(8, 8, num_blocks=1, joined=True, smooth=False)
    assert [len(part) for part in (block.first, block.second)] == [1, 1]
    assert block(torch.randn(1, 8, 4, 4)).shape == (1, 8, 4, 4)


def test_maps_are_summed() -> None:
    """As a convolution of their concatenation with the same weights twice."""
    fusion = dict(type='ConvModule', kernel_size=1, act_cfg=None)
    layer = dict(type='EncoderLayer', self_attn=None, ffn=None)
    options = dict(layer=layer, fusion=fusion, projected=False, embed_dims=4)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        summed = randomise_(HybridEncoder(join='sum', **options)).eval()
        concatenated = HybridEncoder(**options).eval()
        with pytest.raises(ValueError, match=r"encoder\.join must be one of .*, got 'product'"):
            HybridEncoder(join='product', **options)
    state = {
        name: torch.cat((value, value), 1) if 'conv.weight' in name and '_' in name else value
        for name, value in summed.state_dict().items()
    }
    concatenated.load_state_dict(state)
    maps = [torch.randn(1, 4, size, size) for size in (8, 4, 2)]
    for ours, theirs in zip(summed.fuse(maps), concatenated.fuse(maps), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_rates_of_the_parts() -> None:
    cfg, model = tiny.load(NAME), tiny.build(NAME)
    with DefaultScope.overwrite_default_scope('mmdetr_plugin'):
        groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    seen = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
    layer, block = model.decoder.layers[0], model.backbone.vit.blocks[0]
    for parameter, expected in (
        (block.attn.qkv.weight, (2.5e-5, 1e-4)),
        (block.norm1.weight, (2.5e-5, 0)),
        (model.backbone.stem.conv.weight, (5e-4, 1e-4)),
        (layer.ffn.enter.weight, (5e-4, 1e-4)),
        (layer.ffn_out.norm.weight, (5e-4, 0)),
    ):
        assert seen[id(parameter)] == pytest.approx(expected)
