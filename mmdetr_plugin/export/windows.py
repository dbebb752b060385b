"""mmdet's shifted windows (Swin) for a graph that takes any number of images."""

from __future__ import annotations

from mmdet.models.backbones.swin import ShiftWindowMSA
from torch import Tensor, nn


class OpenWindowMSA(ShiftWindowMSA):
    """mmdet computes the number of images as a Python number, which a graph would keep for ever."""

    def window_reverse(self, windows: Tensor, H: int, W: int) -> Tensor:
        """(B * windows, size, size, C) -> (B, H, W, C)."""
        size = self.window_size
        tiles = windows.view(-1, H // size, W // size, size, size, windows.shape[-1])
        return tiles.transpose(2, 3).reshape(-1, H, W, windows.shape[-1])


def open_windows_(model: nn.Module) -> None:
    """Give mmdet's windows in ``model`` the class that takes any number of images."""
    for part in model.modules():
        if type(part) is ShiftWindowMSA:
            part.__class__ = OpenWindowMSA
