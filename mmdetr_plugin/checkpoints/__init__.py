"""Checkpoints: names in the published layouts, conversion, files."""

from .convert import from_official, is_official, to_official, unwrap
from .files import read_checkpoint, write_checkpoint
from .names import official_names

__all__ = [
    'from_official',
    'is_official',
    'official_names',
    'read_checkpoint',
    'to_official',
    'unwrap',
    'write_checkpoint',
]
