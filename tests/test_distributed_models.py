"""Two processes with different numbers of objects train as one process with the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mmdetr_plugin.queries import DenoisingQueries
from mmdetr_plugin.queries.noise import NoiseDraws, NoiseLayout
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import shrink

COUNTS = {'equal': (2, 2), 'unequal': (5, 1), 'one empty': (3, 0)}
EQUAL = (
    'detr_r50',
    'deformable_detr_two_stage_r50',
    'conditional_detr_r50',
    'sam_detr_r50',
    'h_deformable_detr_r50',
    'group_conditional_detr_r50',
)
CASES = [(name, case) for name in EQUAL for case in ('unequal', 'one empty')]
# Noised queries see the empty places of their image, whose number is that of the fullest image of the
# process. These do not differ if the images are equally full, or if the other one is empty.
CASES += [('dino_r50', 'equal'), ('dino_r50', 'one empty')]
FINITE = [('dn_dab_detr_r50', case) for case in COUNTS] + [('dino_r50', 'unequal')]
"""DN-DETR divides by the pairs of a process, as published: two processes differ from one."""


def build(name: str) -> nn.Module:
    """A shrunk model with few groups, whose number and losses do not depend on the fullest image."""
    torch.manual_seed(0)
    cfg = shrink(tiny.load(name).model)
    for branch in cfg.get('branches', ()):
        if branch.type == 'DenoisingQueries':
            branch.update(groups=2, train_padding=False)
        if branch.type == 'GroupQueries':
            branch.groups = 3
    model = tiny.randomise_(MODELS.build(cfg).eval())
    if name == 'detr_r50':
        model.criterion.losses.loss_cls.sync_weight = True
    for part in model.modules():
        if isinstance(part, DenoisingQueries):
            part.draw = draw_by_image
    return model


def draw_by_image(layout: NoiseLayout) -> NoiseDraws:
    """Each image has its own random numbers, whichever process it is in."""
    draws = []
    for name in layout.targets.image_names:
        with torch.random.fork_rng():
            torch.manual_seed(int(name))
            draws.append(NoiseDraws.random(1, layout.size, tiny.NUM_CLASSES, layout.number.device))
    return NoiseDraws(
        *(torch.cat([getattr(d, x) for d in draws]) for x in ('label', 'new_label', 'sign', 'box'))
    )


def gradients(name: str, case: str, rank: int | None) -> dict[str, Tensor | None]:
    """Gradients from image ``rank`` through DDP, or from both images in one process."""
    model = build(name)
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
    averaged = {key: gradients(*key, rank) for key in (*CASES, *FINITE)}
    torch.save(averaged, f'{folder}/gradients{rank}.pth')
    distributed.destroy_process_group()


@pytest.fixture(scope='module')
def averaged(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp('gloo')
    mp.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder, f'gradients{rank}.pth')) for rank in (0, 1)]


@pytest.mark.parametrize(('name', 'case'), CASES)
def test_two_processes_equal_one(name: str, case: str, averaged: list[dict]) -> None:
    single = gradients(name, case, None)
    for rank in averaged:
        for key, expected in single.items():
            got = rank[name, case][key]
            assert got is not None, key
            torch.testing.assert_close(
                got, expected, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f'{key}: {text}'
            )


@pytest.mark.parametrize(('name', 'case'), FINITE)
def test_two_processes_agree(name: str, case: str, averaged: list[dict]) -> None:
    """Every parameter has a finite gradient, the same in both."""
    first, second = (rank[name, case] for rank in averaged)
    for key, gradient in first.items():
        assert gradient is not None, key
        assert gradient.isfinite().all(), key
        assert torch.equal(gradient, second[key]), key
