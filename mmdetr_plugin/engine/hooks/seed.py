"""Random numbers that depend on the seed and the epoch alone."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.dist import broadcast, get_rank
from mmengine.hooks import DistSamplerSeedHook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from ...registry import HOOKS


@HOOKS.register_module()
class EpochSeedHook(DistSamplerSeedHook):
    """Begins every epoch with random numbers of its own, in the loader's workers too.

    MMEngine's hook, in whose place this one stands, tells the sampler the epoch. Dropout and
    augmentation go on from where the process is, so those of a resumed run differ from those of one
    that was not interrupted. Here both are seeded by (seed, epoch), in a worker also by process and
    worker: with the same numbers of these, resuming after an epoch changes nothing.

    A run without a seed in its config resumes with the one in the checkpoint; so does its sampler.
    In a loop that counts steps, not epochs, only the order of the data is so restored.
    """

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_loop.dataloader
        sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
        if hasattr(sampler, 'seed'):
            seed = torch.tensor(runner.seed)
            broadcast(seed)  # with `diff_rank_seed` the processes differ, the order must not
            sampler.seed = int(seed)
        # It draws a number when it starts workers: not from those that dropout gets.
        loader.generator = torch.Generator()
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        words = (runner.seed, get_rank())
        loader.dataset.__getitems__ = SeededItems(loader.dataset, words, self.epoch)

    def before_train_epoch(self, runner: Runner) -> None:
        super().before_train_epoch(runner)
        self.epoch.fill_(runner.epoch)
        set_seeds(runner.seed, runner.epoch)


class SeededItems:
    """How a loader reads a batch of ``dataset``: a worker that starts an epoch is seeded first.

    A worker may live through many epochs; ``epoch`` lies in memory that it shares.
    """

    def __init__(self, dataset: Dataset, words: tuple[int, int], epoch: Tensor) -> None:
        self.dataset, self.words, self.epoch = dataset, words, epoch
        self.seeded = -1

    def __call__(self, indices: Sequence[int]) -> list:
        worker, epoch = get_worker_info(), int(self.epoch)
        if worker is not None and epoch != self.seeded:
            set_seeds(*self.words, epoch, worker.id)
            self.seeded = epoch
        return [self.dataset[index] for index in indices]


def set_seeds(*words: int) -> None:
    """Seed Python, NumPy and torch with what is mixed from ``words``."""
    seed = int(np.random.SeedSequence(words).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
