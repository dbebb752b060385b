"""Makes random numbers depend on the seed and the epoch or step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(DistSamplerSeedHook):
    """Seeds every epoch, in the loader's workers too, so that a resumed run gives the same result.

    This hook replaces MMEngine's, which only sets the sampler's epoch. There the random numbers of
    dropout and augmentation depend on all that were drawn before, so a resumed run differs from an
    uninterrupted one. Here they are seeded by (seed, epoch), in a worker by (seed, process, epoch,
    worker). With the same number of processes and workers, resuming after an epoch changes nothing.

    A loop that counts steps seeds every step. When it resumes, MMEngine loads the batches again that
    have been trained on, so that each worker is where it was.

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
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        entropy = (runner.seed, get_rank())
        self.counts_steps = not isinstance(runner.train_loop, EpochBasedTrainLoop)
        kind = SeededBatches if self.counts_steps else SeededItems
        loader.dataset.__getitems__ = kind(loader.dataset, entropy, self.epoch)

    def before_train_epoch(self, runner: Runner) -> None:
        super().before_train_epoch(runner)
        self.epoch.fill_(runner.epoch)
        set_seeds(runner.seed, runner.epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if self.counts_steps:
            set_seeds(runner.seed, runner.iter)


class SeededItems:
    """Reads a batch of ``dataset``; seeds the worker before its first batch of an epoch.

    A worker may live for many epochs; ``epoch`` is in memory that it shares with the main process.
    """

    def __init__(self, dataset: Dataset, entropy: tuple[int, int], epoch: Tensor) -> None:
        self.dataset, self.entropy, self.epoch = dataset, entropy, epoch
        self.seeded = -1

    def __call__(self, indices: Sequence[int]) -> list:
        self.seed()
        return [self.dataset[index] for index in indices]

    def seed(self) -> None:
        worker, epoch = get_worker_info(), int(self.epoch)
        if worker is not None and epoch != self.seeded:
            set_seeds(*self.entropy, epoch, worker.id)
            self.seeded = epoch


class SeededBatches(SeededItems):
    """The same in a loop that counts steps: seeds a worker when it starts, else every batch."""

    def seed(self) -> None:
        worker = get_worker_info()
        self.seeded += 1
        if worker is None:
            set_seeds(*self.entropy, self.seeded)
        elif self.seeded == 0:
            set_seeds(*self.entropy, worker.seed)  # differs each time that workers are started


def set_seeds(*entropy: int) -> None:
    """Seed Python, NumPy and torch with one number that is mixed from ``entropy``."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
