"""The names of this project's own models."""

from __future__ import annotations

from .layout import Layout
from .registry import register

register(
    Layout(
        'ours',
        {},
        origin='ours',
        marks=('head.', 'queries.'),
        pretraining=('queries.projection.', 'criterion.losses.loss_feature.align.'),
        relearnt=('head.class_branches.',),
    )
)
