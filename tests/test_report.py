"""`tools/report.py`: what the page of a run says, how it looks, and what is refused."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import browser
import pytest
import tiny_run
from cli import TOOLS, load

from mmdetr_plugin.report import write_report
from mmdetr_plugin.report.work_dir import WorkDir

REPORT = load(TOOLS / 'report.py')
SECTIONS = [
    'Results', 'Training', 'Decoder layers', 'Errors', 'Images', 'Attention', 'Speed',
    'What was loaded', 'Model and schedule', 'Config',
]  # fmt: skip


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs."""
    folder = tmp_path_factory.mktemp('run')
    data = tiny_run.make_data(folder / 'digits')
    cfg = tiny_run.config(data, folder / 'work', epochs=2)
    truth = f'{data}/annotations/val.json'
    cfg.val_evaluator = cfg.test_evaluator = {'type': 'CocoMetric', 'ann_file': truth}
    cfg.default_hooks.checkpoint.update(save_best='auto', rule=None)
    tiny_run.train(cfg, 'report')
    return folder / 'work'


@pytest.fixture(scope='module')
def page(work_dir: Path) -> Path:
    return write_report(work_dir)


def test_every_section_is_there(page: Path, work_dir: Path) -> None:
    text = page.read_text(encoding='utf-8')
    assert page == work_dir / 'report.html'
    assert re.findall(r'<h2>(.*?)</h2>', text) == SECTIONS
    assert '<h1>digits_deformable_detr</h1>' in text
    assert 'evaluated on 2 images' in text
    for expected in ('DeformableAttention', 'median of', 'missed', 'AP50, NMS'):
        assert expected in text
    shown = ' '.join(re.findall(r'alt="(.*?)"', text))
    for expected in ('Training losses', 'Errors, AP50', 'Precision and recall', 'attention of'):
        assert expected in shown
    assert len(re.findall(r'<figure>', text)) >= 2 + 3 + 1 + 2 + 4 + 1


def test_the_page_needs_no_other_file(page: Path) -> None:
    text = page.read_text(encoding='utf-8')
    sources = re.findall(r'(?:src|href)="(.{5})', text)
    assert len(sources) > 10
    assert {source for source in sources if source[0] != '#'} == {'data:'}
    assert '<script' not in text and '@import' not in text and 'url(' not in text


@pytest.mark.skipif(browser.BINARY is None, reason='there is no Chromium on this machine')
@pytest.mark.parametrize(('width', 'columns'), [(1280, 4), (390, 1)], ids=['desktop', 'phone'])
def test_the_page_fits_the_screen(page: Path, width: int, columns: int, tmp_path: Path) -> None:
    seen = browser.measure(page, width, tmp_path)
    assert seen['content'] == seen['width'] and width - 20 <= seen['width'] <= width
    assert seen['wide'] == []
    assert set(seen['addresses']) == {'data:'}
    assert seen['images'] > 10 and seen['broken'] == 0
    assert seen['least'] > 250, 'a picture is too small to see'
    assert seen['columns'] == columns


def test_command(work_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'new' / 'page.html'
    words = [str(work_dir), '--out', str(out), '--images', '1', '--device', 'cpu']
    assert REPORT.main([*words, '--checkpoint', str(work_dir / 'epoch_1.pth')]) == 0
    assert capsys.readouterr().out == f'{out}\n'
    assert 'epoch_1.pth, evaluated on 2 images' in out.read_text(encoding='utf-8')
    assert [file.name for file in out.parent.iterdir()] == ['page.html']


def test_the_best_weights_are_taken(work_dir: Path, tmp_path: Path) -> None:
    opened = WorkDir.open(work_dir)
    assert opened.checkpoint().name.startswith('best_coco_bbox_mAP_epoch_')
    (tmp_path / 'c.py').touch()
    for number in (1, 2):
        shutil.copy(work_dir / f'epoch_{number}.pth', tmp_path)
    assert WorkDir.open(tmp_path).checkpoint().name == 'epoch_2.pth'


def test_what_was_loaded_is_read_from_the_logs(tmp_path: Path) -> None:
    (tmp_path / 'c.py').touch()
    (tmp_path / '2026' / '2026.log').parent.mkdir()
    table = '+---+\n| a |\n+---+\n'
    log = f'INFO - What is loaded from w.pth:\n{table}2026 - INFO - next\n'
    (tmp_path / '2026' / '2026.log').write_text(log)
    assert WorkDir.open(tmp_path).loaded() == [('w.pth', table)]


@pytest.mark.parametrize(
    ('case', 'message'),
    [
        ('no folder', 'the work dir must be the folder that training wrote, got .*does not exist'),
        ('a file', 'which is a file; check the path'),
        ('no config', r'must hold the config of its run \(NAME.py\), got none'),
        (
            'two configs',
            r'must hold one config, got b.py, digits_deformable_detr.py .*: --config FILE',
        ),
        ('no checkpoint', r'must hold a checkpoint \(best_\*.pth, epoch_\*.pth\), got none'),
        ('no such checkpoint', 'the checkpoint must be a file, got .*gone.pth; check the path'),
        ('damaged checkpoint', 'must be a checkpoint'),
        ('no data', 'the annotations of val_dataloader.dataset must be at'),
        ('no writing', 'results must be written to .*name a folder in which you may write'),
    ],
)
def test_bad_input(
    case: str, message: str, work_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, options = tmp_path / 'work', []
    folder.mkdir()
    shutil.copy(work_dir / 'digits_deformable_detr.py', folder)
    if case == 'no folder':
        folder = tmp_path / 'gone'
    elif case == 'a file':
        folder = folder / 'digits_deformable_detr.py'
    elif case == 'no config':
        (folder / 'digits_deformable_detr.py').unlink()
    elif case == 'two configs':
        (folder / 'b.py').touch()
    elif case == 'no such checkpoint':
        options = ['--checkpoint', 'gone.pth']
    elif case == 'damaged checkpoint':
        (folder / 'epoch_1.pth').write_bytes((work_dir / 'epoch_1.pth').read_bytes()[:3000])
    elif case in ('no data', 'no writing'):
        shutil.copy(work_dir / 'epoch_1.pth', folder)
    if case == 'no data':
        options = ['--cfg-options', f'val_dataloader.dataset.data_root={tmp_path}/gone/']
    if case == 'no writing':
        (tmp_path / 'file').touch()
        options = ['--out', str(tmp_path / 'file' / 'page.html')]
    with pytest.raises(SystemExit) as stopped:
        REPORT.main([str(folder), *options])
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err, re.S)
    written = {Path(root, name) for root, _, names in os.walk(tmp_path) for name in names}
    assert [path for path in written if 'html' in path.name] == []
