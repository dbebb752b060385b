"""Attention ops of encoder and decoder layers, one file each."""

from .base import AttentionOp
from .clustering import AdaptiveClusteringAttention
from .conditional import ConditionalCrossAttention, DecoupledSelfAttention
from .deformable import DeformableAttention, MultiScaleDeformableAttention
from .dense import CrossAttention, SelfAttention
from .gaussian import GaussianPrior
from .level_convolution import LevelConvolution
from .recording import AttentionRecords, record_attention
from .replace import replace_deformable_attention
from .row_column import RowColumnCrossAttention, RowColumnSelfAttention
from .semantic_aligned import SemanticAlignedAttention

__all__ = [
    'AdaptiveClusteringAttention',
    'AttentionOp',
    'AttentionRecords',
    'ConditionalCrossAttention',
    'CrossAttention',
    'DecoupledSelfAttention',
    'DeformableAttention',
    'GaussianPrior',
    'LevelConvolution',
    'MultiScaleDeformableAttention',
    'RowColumnCrossAttention',
    'RowColumnSelfAttention',
    'SelfAttention',
    'SemanticAlignedAttention',
    'record_attention',
    'replace_deformable_attention',
]
