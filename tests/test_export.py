"""Exported graphs find what the models find, for all configs; what cannot be exported says why."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
import torch
from cli import ROOT, TOOLS, run, run_python
from mmdet.models.backbones.swin import ShiftWindowMSA
from mmdet.utils import get_test_pipeline_cfg
from PIL import Image
from torch import nn

import mmdetr_plugin.export.check as check
from mmdetr_plugin.attention import AdaptiveClusteringAttention
from mmdetr_plugin.export import (
    DetectionGraph,
    DifferenceError,
    Interface,
    capture,
    export,
    exporting,
    interface_for,
)
from mmdetr_plugin.export.limits import FIXED, NEVER, check_exportable
from mmdetr_plugin.export.windows import OpenWindowMSA, open_windows_
from mmdetr_plugin.inference import load
from mmdetr_plugin.inference.predictor import Predictor

# One config for each kind of inference; DN-DETR, Group DETR, H-DETR, DEIM and RF-DETR differ from these
# in training or in sizes alone. DETR is exported by the command below.
FAMILIES = (
    'anchor_detr_r50',
    'conditional_detr_r50',
    'd_fine_n',
    'dab_detr_r50',
    'ddq_detr_r50',
    'deformable_detr_r50',
    'detr_panoptic_r50',
    'dino_r50',
    'lw_detr_tiny',
    'rt_detr_r18',
    'sam_detr_smca_r50',
    'smca_detr_r50',
    'tsp_rcnn_r50',
    'up_detr_r50',
)
FIXED_SIZE = (128, 160)
SWIN = 'dino_swin_l'
PRETRAINING = 'up_detr_pretrain_r50'  # trains without annotations, and has no test pipeline
CLASSES = tuple(f'class {i}' for i in range(tiny.NUM_CLASSES))


def predictor(name: str) -> Predictor:
    cfg = tiny.load(name)
    model = tiny.build(name)
    model.cfg = cfg
    return Predictor(model, get_test_pipeline_cfg(cfg), CLASSES)


def assert_exported(made: Predictor, path: Path, fixed: tuple[int, int] | None) -> None:
    """The file is written, compared, and has nothing but standard operators."""
    lines: list[str] = []
    assert export(made, path, fixed, report=lines.append) == [path]
    assert len(lines) == 1 and lines[0].startswith('ONNX Runtime and PyTorch: largest difference')
    graph = onnx.load(path)
    assert {opset.domain: opset.version for opset in graph.opset_import} == {'': 18}
    assert {node.domain for node in graph.graph.node} == {''}
    assert not graph.functions


@pytest.mark.parametrize('name', FAMILIES)
def test_onnx_of_one_size_finds_what_the_model_finds(name: str, tmp_path: Path) -> None:
    assert_exported(predictor(name), tmp_path / 'model.onnx', FIXED_SIZE)


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', [name for name in tiny.CONFIGS if name != PRETRAINING])
def test_onnx_of_any_size_finds_what_the_model_finds(name: str, tmp_path: Path) -> None:
    """But where :mod:`mmdetr_plugin.export.limits` says that there must be one size."""
    made = predictor(name)
    fixed = FIXED_SIZE if name == SWIN else None
    assert_exported(made, tmp_path / 'model.onnx', fixed)


# --- the command ----------------------------------------------------------------------------------


SMALL = {'test_dataloader.dataset.pipeline.1.scale': (160, 128)}


@pytest.fixture(scope='module')
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a checkpoint and what the command writes of them."""
    folder = tmp_path_factory.mktemp('export')
    cfg = tiny.load('detr_r50')
    cfg.model = tiny.shrink(cfg.model)
    cfg.merge_from_dict(SMALL)
    cfg.dump(folder / 'config.py')
    model = tiny.build('detr_r50')
    meta = {'dataset_meta': {'classes': CLASSES}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, folder / 'weights.pth')
    arguments = (folder / 'config.py', folder / 'weights.pth', folder / 'made' / 'detr.onnx')
    text = run_python(TOOLS / 'export.py', *arguments, '--openvino', cwd=folder)
    (folder / 'text').write_text(text)
    return folder


def test_the_command_writes_and_compares(files: Path) -> None:
    text = (files / 'text').read_text()
    number = r'\d\.\de[-+]\d\d'
    for runtime in ('ONNX Runtime', 'OpenVINO'):
        line = (
            f'{runtime} and PyTorch: largest difference of scores {number}, boxes {number} pixels'
        )
        assert re.search(line, text)
    names = ['detr.bin', 'detr.onnx', 'detr.xml']
    assert sorted(file.name for file in (files / 'made').iterdir()) == names, 'and nothing else'
    stated = {
        p.key: json.loads(p.value) for p in onnx.load(files / 'made/detr.onnx').metadata_props
    }
    assert stated['classes'] == list(CLASSES) and stated['scale'] == [160, 128]
    assert stated['keep_ratio'] is True and stated['divisor'] == 32 and stated['fixed'] is None


def test_the_example_finds_the_same(files: Path) -> None:
    """It imports none of PyTorch and OpenMMLab."""
    pixels = check.pictures(Interface((160, 128), True, 32, None, ()), 1, (128, 160))[0]
    Image.fromarray(pixels).save(files / 'image.png')
    script = (
        'import runpy, sys; sys.argv = sys.argv[1:]\n'
        'code = 0\n'
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        'except SystemExit as end: code = end.code\n'
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'mmcv', 'mmdet', 'mmengine', 'cv2', 'onnx', 'scipy'}\n"
        'sys.exit(code)'
    )
    arguments = [ROOT / 'examples/onnx_inference.py', 'made/detr.onnx', 'image.png']
    options = ['--score-thr', 0.0, '--out', 'found.png']
    text = run([sys.executable, '-c', script, *arguments, *options], files)
    found = [line.rsplit(' ', 5) for line in text.splitlines()]
    wanted = load(files / 'config.py', files / 'weights.pth', 'cpu')(pixels, score_thr=0.0)
    order = np.argsort(-wanted.scores, kind='stable')
    assert [name for name, *_ in found] == [wanted.names[i] for i in order]
    got = np.array([[float(x) for x in numbers] for _, *numbers in found])
    np.testing.assert_allclose(got[:, 0], wanted.scores[order], atol=2e-3)
    boxes = wanted.boxes[order].clip(0, (160, 128, 160, 128))
    np.testing.assert_allclose(got[:, 1:], boxes, atol=0.2)
    assert Image.open(files / 'found.png').size == (160, 128)


def test_the_example_says_what_picture_is_missing(files: Path) -> None:
    text = run_python(
        ROOT / 'examples/onnx_inference.py', 'made/detr.onnx', 'no.png', cwd=files, code=2
    )
    assert 'image must be a picture that Pillow reads, got no.png' in text


def test_the_example_resizes_as_the_pipeline_does(files: Path) -> None:
    namespace: dict = {}
    exec((ROOT / 'examples/onnx_inference.py').read_text(), namespace)
    detector = namespace['Detector'](str(files / 'made' / 'detr.onnx'))
    pipeline = load(files / 'config.py', files / 'weights.pth', 'cpu').pipeline
    for width, height in ((300, 200), (200, 300), (97, 31), (1000, 90)):
        made = pipeline(
            dict(
                img=np.zeros((height, width, 3), np.uint8),
                img_id=0,
                img_path=None,
                img_shape=(height, width),
                ori_shape=(height, width),
            )
        )
        given = detector.inputs(Image.new('RGB', (width, height)))
        assert tuple(given['sizes'][0]) == tuple(made['data_samples'].img_shape)
        assert all(side % 32 == 0 for side in given['images'].shape[2:])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['config.py', 'weights.pth', 'model.pt'], r'must end in \.onnx, got model\.pt'),
        (['config.py', 'missing.pth', 'm.onnx'], r'missing\.pth'),
        (['nothing', 'weights.pth', 'm.onnx'], r'name of one below configs/, got nothing'),
        (['config.py', 'weights.pth', 'm.onnx', '--fixed', '0', '9'], r'--fixed must be a height'),
    ],
)
def test_bad_arguments_are_refused(files: Path, arguments: list[str], message: str) -> None:
    text = run_python(TOOLS / 'export.py', *arguments, cwd=files, code=2)
    assert re.search(message, text.replace('\n', ' ')) and 'Traceback' not in text
    assert not list(files.glob('*.onnx')) and not list(files.glob('.export*'))


@pytest.mark.slow
def test_the_benchmark_compares_runtimes(tmp_path: Path) -> None:
    words = ['detr_r50', '--small', '--size', 64, 96, '--threads', 1, '--repeats', 1]
    script = TOOLS / 'benchmarks' / 'runtimes.py'
    printed = run_python(script, *words, '--profile', '--json', 'out.json', cwd=tmp_path)
    rows = json.loads((tmp_path / 'out.json').read_text())['rows']
    differences = {row['who']: row['difference'] for row in rows}
    assert differences.keys() >= {
        'PyTorch eager',
        'PyTorch folded',
        'onnx',
        'onnx-int8',
        'openvino',
    }
    assert all(differences[who] < 1e-3 for who in ('PyTorch folded', 'onnx', 'openvino'))
    assert '| detr_r50, 64 x 96 ' in printed
    assert re.search(r'64 x 96, openvino, ms: .*\b(FullyConnected|MatMul) \d', printed)


@pytest.mark.slow
def test_the_benchmark_of_exports(tmp_path: Path) -> None:
    script = TOOLS / 'benchmarks' / 'exports.py'
    words = ['d_fine_n', '--small', '--fixed', 64, 64, '--json', 'out.json']
    printed = run_python(script, *words, cwd=tmp_path)
    rows = json.loads((tmp_path / 'out.json').read_text())
    assert [row['runtime'] for row in rows] == ['ONNX Runtime', 'OpenVINO']
    assert all(row['within'] and row['as tested'] == '64 x 64' for row in rows)
    assert 'd_fine_n: done' in printed and '| d_fine_n | ' in printed
    assert 'done' not in run_python(script, *words, cwd=tmp_path)


# --- failures -------------------------------------------------------------------------------------


def test_a_file_that_differs_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is one whose writing breaks off."""
    made, path = predictor('detr_r50'), tmp_path / 'model.onnx'
    path.write_bytes(b'old')

    def write(program: object, interface: Interface, target: Path) -> None:
        target.write_bytes(b'new')

    monkeypatch.setattr(exporting, 'capture', lambda *_: None)
    monkeypatch.setattr(exporting, 'write_onnx', write)
    monkeypatch.setattr(exporting, 'onnx_runner', lambda _: None)
    monkeypatch.setattr(exporting, 'compare', lambda *_: check.Difference(2e-3, 0.0))
    with pytest.raises(
        DifferenceError, match=r'scores 1\.0e-03, boxes 5\.0e-01 .* got scores 2\.0e-03'
    ):
        export(made, path, report=lambda _: None)
    monkeypatch.setattr(exporting, 'compare', lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(made, path, report=lambda _: None)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]
    monkeypatch.setattr(exporting, 'compare', lambda *_: check.Difference(9e-4, 0.4))
    assert export(made, path, report=lambda _: None) == [path]
    assert path.read_bytes() == b'new' and list(tmp_path.iterdir()) == [path]


def test_differences_are_seen() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 9, 9], [1, 2, 3, 4]], np.float32)
    wanted = {'boxes': boxes, 'scores': np.array([0.9, 0.5, 0.5]), 'labels': np.array([1, 0, 0])}
    same = {name: value[[0, 2, 1]] for name, value in wanted.items()}
    assert check.difference(same, wanted) == check.Difference(0.0, 0.0)
    empty = {name: np.concatenate([value, value[:1]]) for name, value in wanted.items()}
    empty['labels'][3] = -1
    assert check.difference(empty, wanted) == check.Difference(0.0, 0.0)
    moved = {**wanted, 'boxes': boxes + np.array([[0.25], [0], [0]], np.float32)}
    assert check.difference(moved, wanted) == check.Difference(0.0, 0.25)
    other = {**wanted, 'labels': np.array([2, 0, 0])}
    assert check.difference(other, wanted).boxes == np.inf
    last = {**wanted, 'scores': np.array([0.9, 0.5, 0.4]), 'labels': np.array([1, 0, 0])}
    swapped = {**last, 'labels': np.array([1, 0, 2])}
    assert check.difference(swapped, last) == check.Difference(0.0, 0.0), (
        'as low as others left out'
    )
    swapped = {**last, 'labels': np.array([1, 2, 0])}
    assert check.difference(swapped, last).boxes == np.inf
    alone = {name: value[:1] for name, value in wanted.items()}
    apart = {**alone, 'boxes': alone['boxes'] + 1}
    assert check.difference(apart, alone) == check.Difference(0.0, 1.0)
    fewer = {name: value[:2] for name, value in wanted.items()}
    assert check.difference(fewer, wanted) == check.Difference(0.5, np.inf)
    scored = {**wanted, 'scores': np.array([0.9, 0.502, 0.5])}
    found = check.difference(scored, wanted)
    assert found.scores == pytest.approx(0.002) and not found.within()
    assert not check.Difference(float('nan'), 0.0).within()


# --- what cannot be exported ----------------------------------------------------------------------


def test_what_cannot_be_exported_says_why() -> None:
    page = (ROOT / 'docs' / 'export.md').read_text()
    for kind in NEVER:
        assert f'`{kind.__name__}`' in page
    for name in FIXED:
        assert f'`{name.removeprefix("mmdet.")}`' in page
    model = tiny.build('detr_r50')
    model.encoder.layers[0].self_attn = AdaptiveClusteringAttention(tiny.WIDTH)
    with pytest.raises(ValueError, match=r'AdaptiveClusteringAttention cannot be exported: .*Self'):
        check_exportable(model, fixed=True)


def test_swin_needs_one_size() -> None:
    made = predictor(SWIN)
    with pytest.raises(ValueError, match=r'SwinTransformer can be exported for one size alone'):
        capture(DetectionGraph(made.model), interface_for(made))


def test_windows_for_any_number_of_images_are_mmdets() -> None:
    torch.manual_seed(0)
    part = ShiftWindowMSA(32, 4, window_size=5, shift_size=2).eval()
    x = torch.randn(3, 7 * 12, 32)
    expected = part(x, (7, 12))
    open_windows_(part)
    assert type(part) is OpenWindowMSA
    torch.testing.assert_close(part(x, (7, 12)), expected, rtol=0, atol=0)


def test_models_of_others_are_refused() -> None:
    made = predictor('detr_r50')
    made.model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match='a model of this project can be exported, got Linear'):
        interface_for(made)
