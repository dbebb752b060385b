"""Attention of cluster means instead of all queries (ACT)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..ops.clustering import Clusters, cluster, draw_planes, hash_values
from ..registry import MODELS
from ..structures import Memory, State
from .base import join_heads
from .dense import SelfAttention
from .records import Attention, DenseAttention, key_shapes


@MODELS.register_module()
class AdaptiveClusteringAttention(SelfAttention):
    """Self-attention whose similar queries share one result (Zheng et al., "End-to-End Object Detection
    with Adaptive Clustering Transformer", arXiv:2011.09315, section 3).

    Queries of an image and head that fall into the same buckets of random projections form a cluster.
    Their mean attends to all keys, and all of them get its output. The parameters are those of
    ``SelfAttention``, so a model that was trained with it can be used without further training. The
    projections are drawn in every forward pass.

    Args:
        q_hashes: rounds of hashing, 1 to 32: with more of them clusters are smaller and closer to exact
            attention.
        k_hashes: rounds of hashing of the keys; their clusters then stand for them, weighted by size.
            It needs images of one size. None = keys are not clustered.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.1,
        q_hashes: int = 32,
        k_hashes: int | None = None,
    ) -> None:
        super().__init__(embed_dims, num_heads, dropout)
        self.q_hashes, self.k_hashes = q_hashes, k_hashes

    @torch.compiler.disable  # the number of clusters decides shapes
    def forward(self, state: State, memory: Memory, layer: int) -> Tensor:
        q, k, v, clusters, keys = self._clustered(state)
        mask = self._key_mask(state.self_mask, len(q))
        dropout = self.dropout if self.training else 0.0
        out = clustered_attention(q, k, v, clusters, mask, keys, dropout)
        return self.out_proj(join_heads(out.unflatten(0, (-1, self.num_heads))))

    def observe(self, state: State, memory: Memory, layer: int) -> Attention:
        """The weights of single keys: those of a cluster share its weight equally."""
        q, k, v, clusters, keys = self._clustered(state)
        mask = self._key_mask(state.self_mask, len(q))
        # The weights are what attention makes of the keys' own indicators.
        own = torch.eye(k.shape[1], dtype=k.dtype, device=k.device).expand(len(k), -1, -1)
        weights = clustered_attention(q, k, own, clusters, mask, keys)
        heads = (-1, self.num_heads)
        shapes = key_shapes(state, memory)
        return DenseAttention(v.unflatten(0, heads), shapes, weights.unflatten(0, heads))

    def _clustered(self, state: State) -> tuple[Tensor, Tensor, Tensor, Clusters, Clusters | None]:
        """Queries, keys, values (B * heads, N, D) and clusters of queries and keys."""
        x = state.with_pos()
        q, k, v = (part.flatten(0, 1) for part in self.project(x, x, state.content))
        clusters = self.clusters(q * q.shape[-1] ** -0.5, self.q_hashes)
        keys = None if self.k_hashes is None else self.clusters(k, self.k_hashes)
        return q, k, v, clusters, keys

    @staticmethod
    def clusters(vectors: Tensor, rounds: int) -> Clusters:
        """Clusters of vectors (R, N, D), by projections that are drawn for this call."""
        planes = draw_planes(vectors.shape[-1], rounds, vectors.device)
        return cluster(hash_values(vectors, *planes))

    def _key_mask(self, mask: Tensor | None, rows: int) -> Tensor | None:
        """(B, 1, 1, N) -> (B * heads, 1, N)."""
        if mask is None:
            return None
        if mask.shape[1:3] != (1, 1):
            raise ValueError(
                'AdaptiveClusteringAttention needs a mask of keys alone, got one for each query of '
                f'shape {tuple(mask.shape)}; use it in the encoder'
            )
        return mask[:, 0].repeat_interleave(rows // len(mask), 0)


def clustered_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    clusters: Clusters,
    mask: Tensor | None = None,
    keys: Clusters | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(mean(q) k^T / sqrt(D)) v for each cluster of queries, copied to its members.

    Args:
        q: (R, N, D).
        k: (R, S, D).
        v: (R, S, E).
        clusters: of the queries.
        mask: (R, 1, S) bool, True = attend.
        keys: clusters of the keys, whose means stand for them, each counted as often as it has members.
        dropout: share of attention weights dropped.

    Returns:
        (R, N, E).

    Raises:
        ValueError: keys are clustered although there is a mask.
    """
    bias = mask
    if keys is not None:
        if mask is not None:
            raise ValueError(
                'clusters of keys need images without padding, got a mask; set k_hashes=None, or use '
                'images of one size'
            )
        k, v = keys.mean(k), keys.mean(v)
        bias = keys.counts.to(q.dtype).log()[:, None]  # -inf where there is no cluster
    # Heads count as images here, so that a mask of keys applies to all rows.
    out = F.scaled_dot_product_attention(clusters.mean(q), k, v, attn_mask=bias, dropout_p=dropout)
    return clusters.spread(out)
