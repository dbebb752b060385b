"""`tools/convert_checkpoint.py`: files of any layout to ours, and from ours to others."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from cli import TOOLS, load, run_python
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import read_checkpoint, to_hf, to_official, write_checkpoint
from mmdetr_plugin.testing import peers, shrink

convert_checkpoint = load(TOOLS / 'convert_checkpoint.py')

NAMES = ['detr_r50', 'deformable_detr_two_stage_r50']


@pytest.fixture(scope='module', params=NAMES)
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the shrunk config."""
    cfg = tiny.load(request.param)
    cfg.model = tiny.shrink(cfg.model)
    file = tmp_path_factory.mktemp('config') / f'{request.param}.py'
    cfg.dump(file)
    return file


@pytest.fixture(scope='module')
def model(config: Path) -> nn.Module:
    return tiny.build(config.stem)


@pytest.fixture(scope='module')
def official(model: nn.Module) -> dict[str, Tensor]:
    return to_official(model.state_dict(), model)


def convert(src: object, config: Path, folder: Path, *options: str) -> dict:
    """What the tool makes of an object saved by torch."""
    torch.save(src, folder / 'src.pth')
    files = [str(folder / name) for name in ('src.pth', 'dst.pth')]
    assert convert_checkpoint.main([*files, '--config', str(config), *options]) == 0
    return read_checkpoint(files[1])


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in got.items())


@pytest.mark.parametrize('under', [None, 'model', 'state_dict'])
def test_published_file_to_ours(
    model: nn.Module, official: dict[str, Tensor], config: Path, tmp_path: Path, under: str | None
) -> None:
    src = official if under is None else {under: official, 'epoch': 49}
    dst = convert(src, config, tmp_path)
    assert list(dst) == ['state_dict']
    assert_equal(dst['state_dict'], model.state_dict())
    other = tiny.build(config.stem, seed=1)
    load_checkpoint(other, str(tmp_path / 'dst.pth'), strict=True)
    assert_equal(other.state_dict(), model.state_dict())


def test_ours_to_the_official_layout(
    model: nn.Module, official: dict[str, Tensor], config: Path, tmp_path: Path
) -> None:
    src = {'meta': {'epoch': 3}, 'state_dict': model.state_dict()}
    dst = convert(src, config, tmp_path, '--to', 'official')
    assert list(dst) == ['model']
    assert_equal(dst['model'], official)


def test_gradients_go_both_ways(model: nn.Module, config: Path, tmp_path: Path) -> None:
    gradients = {n: torch.randn_like(p) for n, p in model.named_parameters() if p.requires_grad}
    theirs = convert(gradients, config, tmp_path, '--to', 'official')['model']
    assert_equal(convert(theirs, config, tmp_path)['state_dict'], gradients)


@pytest.mark.parametrize('to', ['ours', 'official'])
def test_classes_and_queries_of_the_checkpoint_are_kept(
    config: Path, tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.build(config.stem, num_classes=7)
    state = other.state_dict() if to == 'official' else to_official(other.state_dict(), other)
    dst = convert(state, config, tmp_path, '--to', to)
    text = 'the checkpoint has 7 classes, the config 5: all are kept; set model.num_classes'
    assert text in capsys.readouterr().out
    expected = to_official(other.state_dict(), other) if to == 'official' else other.state_dict()
    assert_equal(next(iter(dst.values())), expected)


def test_mmdets_file_keeps_the_names_of_its_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peer, model = peers.mmdet_pair('deformable_detr_r50', small=True)
    cfg = peers.our_config('deformable_detr_r50')
    cfg.model = shrink(cfg.model, peers.SMALL)
    cfg.dump(tmp_path / 'config.py')
    meta = {'dataset_meta': {'CLASSES': ('cat', 'dog')}, 'epoch': 12}
    src = {'meta': meta, 'state_dict': peer.state_dict(), 'optimizer': {}}
    dst = convert(src, tmp_path / 'config.py', tmp_path)
    assert dst['meta'] == {'dataset_meta': {'classes': ('cat', 'dog')}}
    assert_equal(dst['state_dict'], model.state_dict())
    text = capsys.readouterr().out
    assert 'layout of the checkpoint: mmdet\n' in text
    assert 'zeros, as files of this layout lack them: neck.convs.0.conv.bias, neck.convs.1' in text


def test_options_replace_values_of_the_config(
    official: dict[str, Tensor], config: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        convert(official, config, tmp_path, '--cfg-options', 'model.decoder.num_layers=3')
    assert caught.value.code == 1


@pytest.mark.parametrize('to', ['ours', 'official'])
def test_nothing_to_convert_is_told(
    model: nn.Module,
    official: dict[str, Tensor],
    config: Path,
    tmp_path: Path,
    to: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    src = official if to == 'official' else model.state_dict()
    with pytest.raises(SystemExit):
        convert(src, config, tmp_path, '--to', to)
    assert f"SRC must not be in the layout '{to}' already, but it is" in capsys.readouterr().err
    assert not (tmp_path / 'dst.pth').exists()


def test_file_of_another_model_is_told(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tiny.build(next(name for name in NAMES if name != config.stem))
    with pytest.raises(SystemExit):
        convert(to_official(other.state_dict(), other), config, tmp_path)
    text = capsys.readouterr().err
    assert 'missing: ' in text
    assert 'not of this model: ' in text
    assert 'use the config that this checkpoint was made with' in text


def test_safetensors_both_ways(
    model: nn.Module, official: dict[str, Tensor], config: Path, tmp_path: Path
) -> None:
    options = ['--config', str(config)]
    names = [str(tmp_path / f'{kind}.safetensors') for kind in ('official', 'hf', 'ours')]
    write_checkpoint(official, names[0])
    assert convert_checkpoint.main([names[0], names[1], *options, '--to', 'hf']) == 0
    assert_equal(read_checkpoint(names[1]), to_hf(model.state_dict(), model))
    assert convert_checkpoint.main([names[1], names[2], *options]) == 0
    assert_equal(read_checkpoint(names[2]), model.state_dict())
    other = tiny.build(config.stem, seed=1)
    for name in names:  # MMEngine's own loader, as `load_from` uses it
        other.load_state_dict(tiny.build(config.stem, seed=1).state_dict())
        load_checkpoint(other, name, strict=True)
        assert_equal(other.state_dict(), model.state_dict())


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    text = run_python(TOOLS / 'convert_checkpoint.py', '--help', cwd=tmp_path)
    assert '--to {ours,official,hf}' in text
    arguments = ('gone.pth', 'new.pth', '--config', tiny.ROOT / 'configs' / 'detr_r50.py')
    text = run_python(TOOLS / 'convert_checkpoint.py', *arguments, cwd=tmp_path, code=1)
    assert 'convert_checkpoint.py: the checkpoint must be a file, got gone.pth' in text
    assert 'Traceback' not in text
