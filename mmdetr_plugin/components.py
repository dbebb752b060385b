"""Imports every module that registers something; the registries import this one lazily."""

from . import (  # noqa: F401
    attention,
    backbone,
    criterion,
    datasets,
    decoder,
    detector,
    encoder,
    ffn,
    heads,
    layers,
    memory_adapter,
    optim_wrapper,
    position,
    queries,
    query_position,
)
