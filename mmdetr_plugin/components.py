"""Imports every module that registers something; the registries import this one lazily."""

from . import attention, backbone, criterion, datasets, decoder, detector  # noqa: F401
from . import encoder, ffn, heads, layers, position, queries  # noqa: F401
