"""How long a model takes for an image."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass

import torch

from ..inference.predictor import Predictor
from ..inference.validation import val_loader, validation_config

SECONDS = 2.0
"""After which no further run is started."""
RUNS = 20


@dataclass(frozen=True)
class Speed:
    """The time of one image, without loading it.

    Attributes:
        milliseconds: the median.
        runs: number of timed runs.
        size: (height, width) of the network's input.
        device: on what.
    """

    milliseconds: float
    runs: int
    size: tuple[int, int]
    device: str


@torch.no_grad()
def measure(predictor: Predictor) -> Speed:
    """Time the first validation image alone, from the preprocessor to the detections."""
    batch = next(iter(val_loader(validation_config(predictor), batch_size=1)))
    gpu = predictor.device.type == 'cuda'
    times: list[float] = []
    begun = time.perf_counter()
    while not times or (len(times) <= RUNS and time.perf_counter() - begun < SECONDS):
        start = time.perf_counter()
        predictor.model.val_step(batch)
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    timed = times[1:] or times  # the first one also prepares
    device = torch.cuda.get_device_name() if gpu else platform.processor() or platform.machine()
    if not gpu:
        device = f'{device}, {torch.get_num_threads()} threads'
    height, width = batch['inputs'][0].shape[-2:]
    return Speed(1e3 * statistics.median(timed), len(timed), (height, width), device)
