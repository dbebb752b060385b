"""Imports every module that registers a class; the registries import this module lazily."""

from . import (  # noqa: F401
    attention,
    backbones,
    criterion,
    datasets,
    detector,
    engine,
    evaluation,
    heads,
    necks,
    positions,
    queries,
    transformer,
    visualization,
)
from .checkpoints import part_weights  # noqa: F401
from .checkpoints.safe_globals import register_safe_globals

register_safe_globals()
