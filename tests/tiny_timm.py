"""A stand-in for timm: models named `first` and `last` after where their maps have the channels."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from torch import Tensor, nn


class Features(nn.Module):
    """Five maps at strides 2 to 32 of 4, 8, ... channels."""

    def __init__(self, out_indices: tuple[int, ...], output_fmt: str) -> None:
        super().__init__()
        self.out_indices, self.output_fmt = out_indices, output_fmt
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(4 * i if i else 3, 4 * i + 4, 3, 2, 1), nn.BatchNorm2d(4 * i + 4)
            )
            for i in range(max(out_indices) + 1)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x.permute(0, 2, 3, 1) if self.output_fmt == 'NHWC' else x)
        return [maps[i] for i in self.out_indices]


def create_model(
    name: str,
    features_only: bool,
    out_indices: tuple[int, ...],
    pretrained: bool,
    **options: object,
) -> Features:
    assert features_only
    return Features(out_indices, 'NHWC' if name == 'last' else 'NCHW')


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'timm', SimpleNamespace(create_model=create_model))
