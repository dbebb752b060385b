"""Imports every module that registers something; the registries import this one lazily."""

from . import (  # noqa: F401
    attention,
    backbone,
    criterion,
    datasets,
    decoder,
    detector,
    encoder,
    encoder_neck,
    evaluation,
    ffn,
    heads,
    hooks,
    layers,
    memory_adapter,
    optim_wrapper,
    position,
    queries,
    query_position,
    timm_backbone,
    visualization,
)
from .checkpoints.safe_globals import register_safe_globals

register_safe_globals()
