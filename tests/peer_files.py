"""Files of other projects that hold our weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from mmdetr_plugin.checkpoints import to_hf, write_checkpoint


def read_by_transformers(peer: Any, model: nn.Module, folder: Path) -> Any:
    """transformers' model with the peer's config and our weights, all of which it must know."""
    written = to_hf(model.state_dict(), model)
    assert set(written) == set(peer.state_dict())
    peer.config.save_pretrained(folder)
    write_checkpoint(written, folder / 'model.safetensors')
    again, report = type(peer).from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    return again
