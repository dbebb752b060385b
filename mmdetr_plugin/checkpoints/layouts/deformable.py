"""The official Deformable DETR and DAB-Deformable DETR."""

from __future__ import annotations

from .layout import Layout
from .official import LAYER, OFFICIAL
from .registry import register

# The decoder numbers the norm of the cross-attention first.
DECODER_LAYER = {**LAYER, 'self_attn_out.norm.': 'norm2.', 'cross_attn_out.norm.': 'norm1.'}

DEFORMABLE = register(Layout('deformable', base=OFFICIAL, parts={'DecoderLayer': DECODER_LAYER}))
