"""Two processes with different numbers of objects train as one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

MODELS = ('detr_r50', 'deformable_detr_two_stage_r50', 'conditional_detr_r50', 'sam_detr_r50')
COUNTS = {'unequal': (5, 1), 'one empty': (3, 0)}


def gradients(name: str, case: str, rank: int | None) -> dict[str, Tensor]:
    """Gradients from image ``rank`` through DDP, or from both images in one process."""
    model = tiny.build(name)
    if name == 'detr_r50':
        model.criterion.losses.loss_cls.sync_weight = True
    images, samples = tiny.batch(COUNTS[case], (tiny.CANVAS, tiny.CANVAS))
    if rank is None:
        losses = model(images, samples, mode='loss')
    else:
        ddp = DistributedDataParallel(model, find_unused_parameters=False)
        losses = ddp(images[rank : rank + 1], samples[rank : rank + 1], mode='loss')
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    return {key: p.grad for key, p in model.named_parameters() if p.requires_grad}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group('gloo', f'file://{folder}/meet', rank=rank, world_size=2)
    averaged = {(n, c): gradients(n, c, rank) for n in MODELS for c in COUNTS}
    torch.save(averaged, f'{folder}/gradients{rank}.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def averaged(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp('gloo')
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder, f'gradients{rank}.pth')) for rank in (0, 1)]


@pytest.mark.parametrize('case', COUNTS)
@pytest.mark.parametrize('name', MODELS)
def test_two_processes_equal_one(name: str, case: str, averaged: list[dict]) -> None:
    single = gradients(name, case, None)
    for rank in averaged:
        for key, expected in single.items():
            got = rank[name, case][key]
            assert got is not None, key
            torch.testing.assert_close(
                got, expected, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f'{key}: {text}'
            )
