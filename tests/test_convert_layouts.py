"""Layouts: which one a file has, what is an error, what files of safetensors are."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import (
    read_checkpoint,
    recognise,
    to_hf,
    to_official,
    to_ours,
    write_checkpoint,
)
from mmdetr_plugin.checkpoints.layouts import LAYOUTS, get_layout
from mmdetr_plugin.checkpoints.names import layout_names

HF = {
    'detr_r50': 'hf_detr',
    'conditional_detr_r50': 'hf_detr',
    'dab_detr_r50': 'hf_dab',
    'dab_detr_r50_3pat': 'hf_dab',
    'deformable_detr_r50': 'hf_deformable',
    'deformable_detr_refine_r50': 'hf_deformable',
    'deformable_detr_two_stage_r50': 'hf_deformable',
    'deformable_detr_single_scale_r50': 'hf_deformable',
}
MMDET = {
    'detr_r50': 'mmdet_detr',
    'conditional_detr_r50': 'mmdet_detr',
    'dab_detr_r50': 'mmdet_dab',
    'deformable_detr_two_stage_r50': 'mmdet_deformable',
    'dino_r50_mmdet': 'mmdet_dino',
    'ddq_detr_r50': 'mmdet_ddq',
}


def write(model: nn.Module, layout: str) -> dict[str, Tensor]:
    """The model's weights in a layout that the package only reads."""
    table, state = layout_names(model, layout), model.state_dict()
    return {n: state[ours] for ours, each in table.items() for names in each for n in names}


def assert_ours(state: dict[str, Tensor], model: nn.Module) -> None:
    expected = model.state_dict()
    assert list(state) == list(expected)
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


# ---- recognised ---------------------------------------------------------------------------------


@pytest.mark.parametrize('name', tiny.CONFIGS)
def test_ours_and_official(name: str) -> None:
    model = tiny.build(name)
    assert recognise(model.state_dict()) == 'ours'
    assert to_ours(model.state_dict(), model)[1:] == ('ours', [])
    official = to_official(model.state_dict(), model)
    assert recognise(official, model.layout) == model.layout
    state, layout, filled = to_ours({'model': official, 'epoch': 3}, model)
    assert (layout, filled) == ('official', [])
    assert_ours(state, model)


@pytest.mark.parametrize('name', HF)
def test_transformers(name: str) -> None:
    model = tiny.build(name)
    theirs = to_hf(model.state_dict(), model)
    assert recognise(theirs) == HF[name]
    state, layout, filled = to_ours(theirs, model)
    assert (layout, filled) == ('hf', [])
    assert_ours(state, model)


@pytest.mark.parametrize('first', [True, False])
@pytest.mark.parametrize('name', [name for name in HF if HF[name] != 'hf_detr'])
def test_transformers_files_have_tied_tensors_once(name: str, first: bool) -> None:
    """Under their first name in the converted files of its hub, the decoder's when saved again."""
    model = tiny.build(name)
    theirs = to_hf(model.state_dict(), model)
    order = sorted(theirs, key=lambda n: (n.startswith('model.decoder.') == first, n))
    once = {theirs[n].data_ptr(): n for n in reversed(order)}  # pieces have places of their own
    assert len(once) < len(theirs)
    state, _, _ = to_ours({n: theirs[n] for n in once.values()}, model)
    assert_ours(state, model)


@pytest.mark.parametrize(
    ('file', 'body'),
    [
        ('{}embedder.embedder.convolution.weight', 'conv1.weight'),
        ('{}embedder.embedder.normalization.running_var', 'bn1.running_var'),
        ('{}encoder.stages.2.layers.4.layer.0.convolution.weight', 'layer3.4.conv1.weight'),
        ('{}encoder.stages.0.layers.0.layer.2.normalization.bias', 'layer1.0.bn3.bias'),
        ('{}encoder.stages.3.layers.0.shortcut.convolution.weight', 'layer4.0.downsample.0.weight'),
        ('{}encoder.stages.3.layers.0.shortcut.normalization.bias', 'layer4.0.downsample.1.bias'),
        ('{}layer2.0.conv3.weight', 'layer2.0.conv3.weight'),
    ],
)
def test_backbones_of_transformers(file: str, body: str) -> None:
    """Its own ResNet and that of timm (seen in models of both), in files and in models."""
    inside, wrapped = 'model.backbone.', 'model.backbone.conv_encoder.'
    of_detr, of_dab = (get_layout(name).from_file for name in ('hf_detr', 'hf_dab'))
    for prefix in (inside, wrapped):
        (name,) = of_detr({file.format(f'{prefix}model.'): 0})
        assert name == f'{inside}model.{body}'
    (name,) = of_dab({file.format(f'{wrapped}model.'): 0})
    assert name == f'{wrapped}model._backbone.{body}'
    assert list(of_dab({name: 0})) == [name]


@pytest.mark.parametrize('name', MMDET)
def test_mmdet(name: str) -> None:
    model = tiny.build(name)
    theirs = write(model, MMDET[name])
    assert recognise(theirs) == MMDET[name]
    state, layout, filled = to_ours({'state_dict': theirs, 'meta': {}}, model)
    assert (layout, filled) == ('mmdet', [])
    assert_ours(state, model)


def test_numbers_of_classes_and_queries_are_the_files() -> None:
    file = tiny.build('conditional_detr_r50', num_classes=7)
    state = file.state_dict()
    state['queries.embedding.weight'] = torch.randn(20, tiny.WIDTH)
    model = tiny.build('conditional_detr_r50')
    out, _, _ = to_ours(state, model)
    assert out['head.class_branches.0.weight'].shape == (7, tiny.WIDTH)
    assert out['queries.embedding.weight'].shape == (20, tiny.WIDTH)
    state['encoder.layers.0.ffn.linear1.bias'] = torch.zeros(3)
    with pytest.raises(ValueError, match=r'ffn.linear1.bias: file \(3,\), model \(\d+,\)'):
        to_ours(state, model)


def test_query_key_and_value_are_joined_and_split() -> None:
    model = tiny.build('detr_r50')
    theirs = to_hf(model.state_dict(), model)
    parts = [theirs[f'model.encoder.layers.0.self_attn.{x}_proj.weight'] for x in 'qkv']
    whole = model.encoder.layers[0].self_attn.in_proj_weight
    assert torch.equal(torch.cat(parts), whole)
    del theirs['model.encoder.layers.0.self_attn.k_proj.weight']
    text = r'missing: model.encoder.layers.0.self_attn.k_proj.weight \(nearest: model.encoder'
    with pytest.raises(ValueError, match=text):
        to_ours(theirs, model)


# ---- filled, and what is not --------------------------------------------------------------------


def test_biases_that_mmdet_lacks_are_zero() -> None:
    model = tiny.build('deformable_detr_r50')
    theirs = write(model, 'mmdet_deformable')
    lacking = [n for n in theirs if n.startswith('neck.') and n.endswith('conv.bias')]
    assert len(lacking) == 4
    state, _, filled = to_ours({n: v for n, v in theirs.items() if n not in lacking}, model)
    assert filled == lacking
    assert not any(state[name].any() for name in filled)


def test_the_row_of_labels_that_mmdet_lacks_is_zero() -> None:
    model = tiny.build('dino_r50')
    theirs = write(model, 'mmdet_dino')
    labels = 'dn_query_generator.label_embedding.weight'
    theirs[labels] = theirs[labels][:-1]
    assert recognise(theirs) == 'mmdet_dino'
    state, _, filled = to_ours(theirs, model)
    assert filled == []
    (name,) = (n for n in state if n.endswith('labels.weight'))
    assert torch.equal(state[name][:-1], theirs[labels])
    assert not state[name][-1].any()
    model.load_state_dict(theirs)  # every row has its class


def test_names_that_mmdets_ddq_has_twice() -> None:
    model = tiny.build('ddq_detr_r50')
    theirs = write(model, 'mmdet_ddq')
    head = 'bbox_head.aux_reg_branches.'
    boxes = [name for name in theirs if name.startswith(head)]
    theirs |= {name.replace('bbox_head.', 'decoder.'): theirs[name] for name in boxes}
    assert boxes
    assert_ours(to_ours(theirs, model)[0], model)


def test_a_bias_without_a_norm_is_not_filled() -> None:
    model = tiny.build('detr_r50')
    theirs = write(model, 'mmdet_detr')
    del theirs['neck.convs.0.conv.bias']
    with pytest.raises(ValueError, match=r'missing: neck.convs.0.conv.bias'):
        to_ours(theirs, model)
    official = to_official(model.state_dict(), model)
    del official['input_proj.bias']
    with pytest.raises(ValueError, match=r'missing: input_proj.bias'):
        to_ours(official, model)


# ---- errors -------------------------------------------------------------------------------------


def test_heads_of_their_own_do_not_become_one() -> None:
    refined, plain = (tiny.build(f'deformable_detr_{x}r50') for x in ('refine_', ''))
    text = r'bbox_head.\w+_branches.0.\S+ and bbox_head.\w+_branches.1.\S+ must be equal.*refine'
    with pytest.raises(ValueError, match=text):
        to_ours(write(refined, 'mmdet_deformable'), plain)
    official = to_official(plain.state_dict(), plain)
    with pytest.raises(ValueError, match=r'missing: transformer.decoder.bbox_embed.0.layers.0.wei'):
        to_ours(official, refined)


def test_heads_of_mmdets_dino_do_not_become_one() -> None:
    theirs = write(tiny.build('dino_r50_mmdet'), 'mmdet_dino')
    with pytest.raises(ValueError, match=r'cls_branches.0.* must be equal.*dino_r50_mmdet'):
        tiny.build('dino_r50').load_state_dict(theirs)


@pytest.mark.parametrize('name', ['smca_detr_r50', 'anchor_detr_r50', 'sam_detr_r50'])
def test_models_that_others_do_not_have(name: str) -> None:
    model = tiny.build(name)
    with pytest.raises(
        ValueError, match=r'write the official layout|does not; use the config that'
    ):
        to_hf(model.state_dict(), model)
    detr = tiny.build('detr_r50')
    text = "must exist in a checkpoint of the layout 'mmdet_detr', but .* does not; use the config"
    with pytest.raises(ValueError, match=text):
        to_ours(write(detr, 'mmdet_detr'), model)


def test_mixed_with_another_model() -> None:
    deformable = tiny.build('deformable_detr_r50')
    for theirs in (
        write(tiny.build('detr_r50'), 'mmdet_detr'),
        to_hf(tiny.build('detr_r50').state_dict(), tiny.build('detr_r50')),
    ):
        with pytest.raises(ValueError, match=r"must be a '\w+_detr' checkpoint(.|\n)*missing: "):
            to_ours(theirs, deformable)


@pytest.mark.parametrize(
    ('names', 'text'),
    [
        (
            ['bbox_head.transformer.encoder.layers.0.x'],
            'must be of mmdet 3.x, but has .* mmdet 2.x',
        ),
        (['roi_head.bbox_head.fc_cls.weight'], 'must be those of one of .* got roi_head.bbox_head'),
        (['backbone.conv1.weight', 'neck.fpn.weight'], 'got neck.fpn.weight; give a checkpoint'),
        ([], 'got no tensors; give a checkpoint'),
    ],
)
def test_names_of_no_layout(names: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        recognise(names)


def test_layouts_are_told_apart() -> None:
    layouts = {*HF.values(), *MMDET.values()}
    assert {layout.split('_')[0] for layout in layouts} == {'hf', 'mmdet'}
    assert not any(LAYOUTS[layout].origin == 'official' for layout in layouts)


# ---- files of safetensors -----------------------------------------------------------------------


def test_safetensors(tmp_path: Path) -> None:
    file = tmp_path / 'model.safetensors'
    shared = torch.randn(3, 4)
    weights = {'a': shared, 'b': shared, 'c': shared.t()}
    write_checkpoint(weights, file)
    assert all(torch.equal(value, weights[name]) for name, value in read_checkpoint(file).items())
    with pytest.raises(ValueError, match=r"can hold only tensors, got \['meta'\] too"):
        write_checkpoint({**weights, 'meta': {}}, file)
    assert set(read_checkpoint(file)) == {'a', 'b', 'c'}  # as it was
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r'complete file of safetensors, but cannot be read .* again'
    ):
        read_checkpoint(file)


def test_safetensors_in_mmengine(tmp_path: Path) -> None:
    source, model = tiny.build('detr_r50'), tiny.build('detr_r50', seed=1)
    write_checkpoint(to_official(source.state_dict(), source), tmp_path / 'detr.safetensors')
    load_checkpoint(model, str(tmp_path / 'detr.safetensors'), map_location='cpu', strict=True)
    assert_ours(model.state_dict(), source)
    with pytest.raises(FileNotFoundError, match=r'must be a file, got .*gone.safetensors; check'):
        load_checkpoint(model, str(tmp_path / 'gone.safetensors'))


def test_safetensors_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__('sys').modules, 'safetensors.torch', None)
    with pytest.raises(ValueError, match=r"needs safetensors.*pip install '\.\[hf\]'"):
        write_checkpoint({}, tmp_path / 'model.safetensors')
