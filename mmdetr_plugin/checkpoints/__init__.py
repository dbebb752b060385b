"""Checkpoints: names in the published layouts, conversion, files."""

from .convert import from_official, to_hf, to_official, to_ours, unwrap
from .files import read_checkpoint, write_checkpoint, written_whole
from .layouts import is_official, recognise
from .names import official_names

__all__ = [
    'from_official',
    'is_official',
    'official_names',
    'read_checkpoint',
    'recognise',
    'to_hf',
    'to_official',
    'to_ours',
    'unwrap',
    'write_checkpoint',
    'written_whole',
]
