"""Checkpoint files appear whole or not at all, and are read without running what is in them."""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import os
import random
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import get_file_backend
from mmengine.runner import CheckpointLoader

import mmdetr_plugin.engine.command_line as command_line
from mmdetr_plugin.checkpoints import read_checkpoint, write_checkpoint, written_whole
from mmdetr_plugin.checkpoints.addresses import load_from_address
from mmdetr_plugin.checkpoints.safe_globals import empty_array
from mmdetr_plugin.engine.hooks import CheckpointAdapter, WholeCheckpointHook
from mmdetr_plugin.engine.hooks.checkpoint import BACKEND, Removals


class RunsCode:
    """Loading it the old way makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / 'new' / 'weights.pth'
    write_checkpoint({'step': 1}, file)
    with pytest.raises(AttributeError, match='lambda'):  # cannot be pickled, half way through
        write_checkpoint({'weight': torch.zeros(1000), 'hook': lambda: None}, file)
    assert read_checkpoint(file) == {'step': 1}
    assert names(file.parent) == ['weights.pth']


def test_a_file_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / 'weights.pth'
    with written_whole(file) as aside:
        aside.write(b'whole')
        assert names(tmp_path) == [f'.weights.pth.{os.getpid()}.tmp']
    assert names(tmp_path) == ['weights.pth']
    assert file.read_bytes() == b'whole'


def test_mmengine_writes_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_file_backend(str(tmp_path), backend_args={'backend': BACKEND})
    file = tmp_path / 'epoch_1.pth'
    backend.put(b'old', str(file))

    def full(descriptor: int) -> None:
        raise OSError('No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space left'):
        backend.put(b'new', str(file))
    assert file.read_bytes() == b'old'
    assert names(tmp_path) == ['epoch_1.pth']


def test_removals_wait(tmp_path: Path) -> None:
    backend = Removals(get_file_backend(str(tmp_path)))
    for name in ('best.pth', 'kept.pth', 'sharded.pth/part'):
        backend.put(b'', tmp_path / name)
    for name in ('best.pth', 'gone.pth'):
        backend.remove(str(tmp_path / name))
    backend.rmtree(str(tmp_path / 'sharded.pth'))
    assert names(tmp_path) == ['best.pth', 'kept.pth', 'sharded.pth']
    backend.finish()
    assert names(tmp_path) == ['kept.pth']


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    """That of a process that still runs stays."""
    hook = WholeCheckpointHook(interval=1, out_dir=str(tmp_path))
    ended = subprocess.Popen(['true'])
    ended.wait()
    dead, alive = ended.pid, os.getppid()
    kept = ['.epoch_1.pth.backup', f'.epoch_3.pth.{alive}.tmp', '.mine.pth.3.tmp', 'epoch_1.pth']
    left = [f'.best_mAP_epoch_1.pth.{dead}.tmp', f'.epoch_2.pth.{dead}.tmp']
    left += [f'.last_checkpoint.{dead}.tmp', f'.epoch_4.pth.{os.getpid()}.tmp']
    for name in (*kept, *left):
        (tmp_path / name).touch()
    hook._clean_up(SimpleNamespace(work_dir=str(tmp_path)))
    assert names(tmp_path) == kept


def test_a_file_that_runs_code_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through `load_from`, `--resume FILE` and `--resume`."""
    file, trace = tmp_path / 'epoch_1.pth', tmp_path / 'trace'
    torch.save({'state_dict': RunsCode(trace)}, file)
    parser, text = argparse.ArgumentParser(), 'loading it would run other code'
    with pytest.raises(SystemExit):
        command_line.build_runner(parser, Config({'load_from': str(file)}))
    told = capsys.readouterr().err
    assert text in told and 'weights_only' not in told  # torch's advice is to switch the check off
    for given in ('auto', str(file)):
        with pytest.raises(SystemExit):
            command_line.set_resume(parser, Config({'work_dir': str(tmp_path)}), given)
        assert text in capsys.readouterr().err
    assert not trace.exists()
    torch.load(file, weights_only=False)
    assert trace.exists()  # it would have


def saved(zipped: bool) -> bytes:
    """A checkpoint in one of the two formats that torch has had."""
    buffer = io.BytesIO()
    content = {'state_dict': {'weight': torch.arange(300.0)}, 'meta': {'epoch': 1}}
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def is_refused(file: Path, content: bytes) -> bool:
    """Whether a file is an error of ours; if not, it must hold what was saved."""
    file.write_bytes(content)
    try:
        read = read_checkpoint(file)
    except ValueError as error:
        assert str(file) in str(error)
        return True
    assert torch.equal(read['state_dict']['weight'], torch.arange(300.0))
    return False


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, zipped: bool) -> None:
    whole, file = saved(zipped), tmp_path / 'epoch_1.pth'
    lengths = range(0, len(whole) - 8, 61)
    assert all(is_refused(file, whole[:length]) for length in lengths)


def test_noise_is_refused(tmp_path: Path) -> None:
    dice, file = random.Random(0), tmp_path / 'epoch_1.pth'
    assert all(is_refused(file, b'\x80\x02' + dice.randbytes(i)) for i in range(60))


def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """Every record has a checksum; what has none is padding, or a field that nobody reads."""
    whole, file, dice = saved(zipped=True), tmp_path / 'epoch_1.pth', random.Random(0)
    expected = read_checkpoint(_write(file, whole))
    weight = whole.index(torch.arange(300.0).numpy().tobytes())
    for place in [weight + 4 * i for i in range(60)] + dice.sample(range(len(whole)), 140):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << dice.randrange(8)
        try:
            read = read_checkpoint(_write(file, bytes(damaged)))
        except ValueError as error:
            assert str(file) in str(error)
            continue
        assert not weight <= place < weight + 1200
        assert read['meta'] == expected['meta']
        assert torch.equal(read['state_dict']['weight'], expected['state_dict']['weight'])


def _write(file: Path, content: bytes) -> Path:
    file.write_bytes(content)
    return file


def test_a_small_file_cannot_ask_for_much(tmp_path: Path) -> None:
    """Strided storage, deflated records, nesting, arrays that a pickle would allocate."""
    file = tmp_path / 'weights.pth'
    torch.save({'weight': torch.zeros(1).expand(1 << 40)}, file)
    with pytest.raises(ValueError, match='must fit the size of the file'):
        read_checkpoint(file)
    nested: list = []
    for _ in range(200):
        nested = [nested]
    torch.save({'nested': nested}, file)
    with pytest.raises(ValueError, match='at most 100 levels'):
        read_checkpoint(file)
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('weights/data.pkl', bytes(1 << 24))
    with pytest.raises(ValueError, match='records must be stored as they are'):
        read_checkpoint(file)
    shapes = {'array': np.zeros(3), 'number': np.float64(2)}
    torch.save(shapes, file)
    assert read_checkpoint(file)['array'].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match='must begin empty'):
        empty_array(np.ndarray, (1 << 40,), b'b')


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What serves the files of ``tmp_path``; torch's cache is a folder below it."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, 'log_message', lambda *_: None)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}/'
        server.shutdown()


def test_a_downloaded_file_runs_no_code_either(tmp_path: Path, address: str) -> None:
    trace = tmp_path / 'trace'
    torch.save({'state_dict': RunsCode(trace)}, tmp_path / 'bad.pth')
    write_checkpoint({'state_dict': {'weight': torch.ones(2)}}, tmp_path / 'good.pth')
    CheckpointAdapter().before_run(None)
    with pytest.raises(ValueError, match=r'bad\.pth must hold tensors .*would run other code'):
        CheckpointLoader.load_checkpoint(f'{address}bad.pth')
    assert not trace.exists()
    for _ in range(2):  # then from the cache
        loaded = CheckpointLoader.load_checkpoint(f'{address}good.pth', map_location='cpu')
        assert loaded['state_dict']['weight'].tolist() == [1, 1]
        (tmp_path / 'good.pth').unlink(missing_ok=True)


def test_two_addresses_with_one_file_name_are_two_files(tmp_path: Path, address: str) -> None:
    for folder, value in (('plain', 1.0), ('dc5', 2.0)):
        write_checkpoint({'w': torch.tensor(value)}, tmp_path / folder / 'model.pth')
    read = [load_from_address(f'{address}{folder}/model.pth') for folder in ('plain', 'dc5')]
    assert [each['w'].item() for each in read] == [1, 2]
    for wrong in (f'{address}gone.pth', 'http://127.0.0.1:9/x.pth'):
        with pytest.raises(FileNotFoundError, match=f'must be at {wrong}, but cannot be fetched'):
            load_from_address(wrong)
