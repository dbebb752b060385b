"""Runs of two processes, started by torchrun: faults of one process, restarts, sharded weights."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cli
import pytest
import tiny
import tiny_run
import torch
import torch.multiprocessing as mp
from mmengine.model import revert_sync_batchnorm
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from mmdetr_plugin.checkpoints import read_checkpoint
from mmdetr_plugin.registry import MODELS


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_data(tmp_path_factory.mktemp('digits') / 'digits')


def torchrun(script: str, *words: object, code: int = 0, restarts: int = 0) -> str:
    """Two processes on this machine; what they print."""
    launcher = (sys.executable, '-m', 'torch.distributed.run', '--standalone')
    options = ('--nproc_per_node=2', f'--max_restarts={restarts}')
    file = cli.ROOT / 'tests' / script
    # Else processes that are started again find the addresses of those before them (torch 2.13).
    fresh = {'TORCH_DISABLE_SHARE_RDZV_TCP_STORE': 1}
    return cli.run([*launcher, *options, file, *words], cli.ROOT, code, timeout=900, **fresh)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('kind', 'exit_code', 'text'),
    [('raise', '1', 'OSError: the disk of this process is gone'), ('die', '-9', 'Signal 9')],
)
def test_a_fault_of_one_process_ends_all(
    data: Path, tmp_path: Path, kind: str, exit_code: str, text: str
) -> None:
    """Torchrun says which process it was; no checkpoint is written after the fault."""
    output = torchrun('rank_run.py', data, tmp_path, kind, code=1)
    assert text in output
    cause = output[output.index('Root Cause') :]
    assert re.search(rf'rank +: 1 \(local_rank: 1\)\n +exitcode +: {exit_code} ', cause), cause
    assert [file.name for file in tmp_path.glob('epoch_*.pth')] == ['epoch_1.pth']


@pytest.mark.slow
def test_torchrun_restarts_a_run_that_resumes(data: Path, tmp_path: Path) -> None:
    output = torchrun('rank_run.py', data, tmp_path, 'die', restarts=1)
    assert 'Signal 9' in output or 'exitcode: -9' in output
    saved = read_checkpoint(tmp_path / 'epoch_2.pth')
    assert saved['meta']['epoch'] == 2


@pytest.mark.exhaustive
def test_two_processes_resume_as_if_they_had_not_stopped(data: Path, tmp_path: Path) -> None:
    torchrun('rank_run.py', data, tmp_path / 'died', 'die', restarts=1)
    torchrun('rank_run.py', data, tmp_path / 'whole', 'none')
    pair = (read_checkpoint(tmp_path / name / 'epoch_2.pth') for name in ('died', 'whole'))
    assert list(tiny_run.different(*pair)) == []


@pytest.mark.parametrize(
    'name',
    [
        pytest.param('', marks=pytest.mark.slow),
        pytest.param('dino_swin_l', marks=pytest.mark.exhaustive),  # needs much memory
    ],
)
def test_sharded_weights(data: Path, tmp_path: Path, name: str) -> None:
    """FSDP in MMEngine's FlexibleRunner: each process holds half of the weights, files hold all.

    Both clip by the norm of the whole gradient. The large model has its full size.
    """
    output = torchrun('sharded_run.py', data, tmp_path, *([name] if name else []))
    found = re.findall(r'process \d holds (\d+) parameters; norm (\S+)', output)
    held = [int(number) for number, _ in found]
    saved = read_checkpoint(tmp_path / 'epoch_1.pth')['state_dict']
    if name:
        model = MODELS.build(tiny_run.full_size(name))
    else:
        model = tiny.build('digits_deformable_detr', num_classes=10)
    assert len(held) == 2
    assert sum(held) == sum(p.numel() for p in model.parameters())
    assert max(held) < 0.6 * sum(held)
    assert {name: x.shape for name, x in saved.items()} == {
        name: x.shape for name, x in model.state_dict().items()
    }
    assert all(x.isfinite().all() for x in saved.values())
    assert len({norm for _, norm in found}) == 1


@pytest.mark.slow
@pytest.mark.parametrize('stage', [1, 2, 3])
def test_sharded_optimizer_states(data: Path, tmp_path: Path, stage: int) -> None:
    """ZeRO of DeepSpeed: each process updates half; the script beside its folder makes a checkpoint."""
    pytest.importorskip('deepspeed.runtime.fp16.onebit', reason='needs deepspeed below 0.19')
    output = torchrun('zero_run.py', data, tmp_path, stage)
    found = re.findall(r'process \d updates (\d+); norm (\S+)', output)
    model = tiny.build('digits_deformable_detr', num_classes=10)
    half = sum(p.numel() for p in model.parameters() if p.requires_grad) / 2
    assert [int(own) for own, _ in found] == pytest.approx([half, half], rel=1e-3)
    assert len({norm for _, norm in found}) == 1
    with pytest.raises(
        FileNotFoundError, match=r'got the folder .*epoch_1.pth; .* zero_to_fp32.py'
    ):
        read_checkpoint(tmp_path / 'epoch_1.pth')
    script = tmp_path / 'zero_to_fp32.py'
    cli.run([sys.executable, script, tmp_path, tmp_path / 'whole', '-t', 'epoch_1.pth'], cli.ROOT)
    weights = read_checkpoint(tmp_path / 'whole/pytorch_model.bin')
    assert {name: x.shape for name, x in weights.items()} == {
        name: x.shape for name, x in model.state_dict().items()
    }


def step_of(rank: int, folder: str) -> None:
    """One training step of every config; the second process has no object."""
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/meet', rank=rank, world_size=2)
    faults = {}
    for name in tiny.different_models():
        model = revert_sync_batchnorm(tiny.build(name))  # SyncBN needs GPUs
        images, samples = tiny.batch((3, 0), (tiny.CANVAS, tiny.CANVAS))
        with tiny.training(model):
            ddp = DistributedDataParallel(model, find_unused_parameters=False)
            losses = ddp(images[rank : rank + 1], samples[rank : rank + 1], mode='loss')
            sum(value for key, value in losses.items() if 'loss' in key).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        if any(g is None or not g.isfinite().all() for g in gradients):
            faults[name] = 'a gradient is missing or not finite'
            continue
        norm = torch.stack([g.norm() for g in gradients]).norm()
        norms = [torch.zeros_like(norm) for _ in range(2)]
        distributed.all_gather(norms, norm)
        if norms[0] != norms[1]:
            faults[name] = f'the processes have different gradients: {norms}'
    torch.save(faults, f'{folder}/faults{rank}.pth')
    distributed.destroy_process_group()


@pytest.mark.exhaustive
def test_every_config_trains_where_one_process_has_no_object(tmp_path: Path) -> None:
    mp.spawn(step_of, (str(tmp_path),), nprocs=2)
    for rank in (0, 1):
        assert torch.load(tmp_path / f'faults{rank}.pth') == {}
