"""A stand-in for timm: models named `first` and `last` after where their maps have the channels."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from torch import Tensor, nn

CONVNEXT_TINY = (96, 192, 384, 768)


class Features(nn.Module):
    """Maps of given channels, each half as large as the one before."""

    def __init__(
        self, out_indices: tuple[int, ...], output_fmt: str, channels: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.out_indices, self.output_fmt = out_indices, output_fmt
        self.feature_info = SimpleNamespace(channels=lambda: [channels[i] for i in out_indices])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 3, 2, 1), nn.BatchNorm2d(width))
            for inputs, width in zip((3, *channels), channels)
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
    channels = CONVNEXT_TINY if name.startswith('convnext_tiny') else (4, 8, 12, 16, 20)
    return Features(out_indices, 'NHWC' if name == 'last' else 'NCHW', channels)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'timm', SimpleNamespace(create_model=create_model))
