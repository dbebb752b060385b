"""Shared by tests, benchmarks and tools; neither training nor detection needs it."""

from ..engine.project import config_path, project_root
from .comparison import check
from .features import given_features
from .noise import given_noise
from .parity import (
    Case,
    detection_arrays,
    loss_arrays,
    output_arrays,
    run_model,
    segment_arrays,
)
from .peers import hf_pair, mmdet_pair, randomise_
from .runs import quiet, write_json
from .shrinking import TINY, ModelSize, shrink
from .variants import small

__all__ = [
    'TINY',
    'Case',
    'ModelSize',
    'check',
    'config_path',
    'detection_arrays',
    'given_features',
    'given_noise',
    'hf_pair',
    'loss_arrays',
    'mmdet_pair',
    'output_arrays',
    'project_root',
    'quiet',
    'randomise_',
    'run_model',
    'segment_arrays',
    'shrink',
    'small',
    'write_json',
]
