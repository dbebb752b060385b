"""Attention ops (slots S3, S8, S9), one file each."""

from .base import AttentionOp
from .conditional import ConditionalCrossAttention, DecoupledSelfAttention
from .deformable import DeformableAttention, MultiScaleDeformableAttention
from .dense import CrossAttention, SelfAttention
from .semantic_aligned import SemanticAlignedAttention

__all__ = [
    'AttentionOp',
    'ConditionalCrossAttention',
    'CrossAttention',
    'DecoupledSelfAttention',
    'DeformableAttention',
    'MultiScaleDeformableAttention',
    'SelfAttention',
    'SemanticAlignedAttention',
]
