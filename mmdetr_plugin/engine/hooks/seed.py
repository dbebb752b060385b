"""Makes random numbers depend on the seed and the epoch or step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import BatchSampler, Dataset, get_worker_info

from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(DistSamplerSeedHook):
    """Seeds every epoch, in the loader's workers too, so that a resumed run gives the same result.

    This hook replaces MMEngine's, which only sets the sampler's epoch. There the random numbers of
    dropout and augmentation depend on all that were drawn before, so a resumed run differs from an
    uninterrupted one. Here they are seeded by (seed, epoch), in a worker by (seed, process, epoch,
    worker). With the same number of processes and workers, resuming after an epoch changes nothing.

    A loop that counts steps seeds every step and every batch. When it resumes, MMEngine loads the
    batches again that have been trained on, or passes over them.

    If the config has no seed, a resumed run and its sampler use the seed in the checkpoint.
    """

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_loop.dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        if hasattr(sampler, 'seed'):
            seed = torch.tensor(runner.seed)
            broadcast(seed)  # `diff_rank_seed` makes seeds differ; the order of the data must not
            sampler.seed = int(seed)
        # The loader draws a number when it starts workers. Its own generator keeps this from changing
        # the numbers that dropout gets.
        loader.generator = torch.Generator()
        self.clock = torch.zeros((), dtype=torch.int64).share_memory_()
        entropy = (runner.seed, get_rank())
        self.counts_steps = not isinstance(runner.train_loop, EpochBasedTrainLoop)
        if self.counts_steps:
            first = runner.iter if passes_over(runner.train_loop) else 0
            read: SeededItems = SeededBatches(loader.dataset, entropy, self.clock, first)
        else:
            read = SeededItems(loader.dataset, entropy, self.clock)
        loader.dataset.__getitems__ = read

    def before_train_epoch(self, runner: Runner) -> None:
        super().before_train_epoch(runner)
        self.clock.fill_(runner.iter if self.counts_steps else runner.epoch)
        set_seeds(runner.seed, runner.epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self.counts_steps:
            set_seeds(runner.seed, runner.iter)
            self.clock.fill_(runner.iter + 1)  # of the batch that is loaded next


def passes_over(loop: BaseLoop) -> bool:
    """Whether the loop, when it resumes, starts its workers after the batches that were trained on.

    It does so in the onedl fork of MMEngine, for samplers that can be set to a place.
    """
    loader = loop.dataloader
    able = hasattr(getattr(loop, 'dataloader_iterator', None), 'skip_iter')
    return able and type(loader.batch_sampler) is BatchSampler and hasattr(loader.sampler, 'skip')


class SeededItems:
    """Reads a batch of ``dataset``; seeds the worker before its first batch of an epoch.

    A worker may live for many epochs; ``clock``, the epoch, is in memory that it shares with the main
    process.
    """

    def __init__(self, dataset: Dataset, entropy: tuple[int, int], clock: Tensor) -> None:
        self.dataset, self.entropy, self.clock = dataset, entropy, clock
        self.seeded = -1

    def __call__(self, indices: Sequence[int]) -> list:
        self.seed()
        return [self.dataset[index] for index in indices]

    def seed(self) -> None:
        worker, epoch = get_worker_info(), int(self.clock)
        if worker is not None and epoch != self.seeded:
            set_seeds(*self.entropy, epoch, worker.id)
            self.seeded = epoch


class SeededBatches(SeededItems):
    """The same in a loop that counts steps, whose number is ``clock``: seeds every batch by its number.

    Workers load ahead of the steps, so they count: each its own share from ``first`` on, which is the
    batch that the first worker begins with.
    """

    def __init__(
        self, dataset: Dataset, entropy: tuple[int, int], clock: Tensor, first: int
    ) -> None:
        super().__init__(dataset, entropy, clock)
        self.first, self.loaded = first, 0

    def seed(self) -> None:
        worker = get_worker_info()
        if worker is None:
            set_seeds(*self.entropy, int(self.clock))
            return
        started = worker.seed - worker.id  # differs each time that workers are started
        number = self.first + self.loaded * worker.num_workers + worker.id
        set_seeds(*self.entropy, started, number)
        self.loaded += 1


def set_seeds(*entropy: int) -> None:
    """Seed Python, NumPy and torch with one number that is mixed from ``entropy``."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
