"""Queries that look for patches of the image (UP-DETR)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from mmdet.structures import SampleList
from torch import Tensor, nn

from ..checkpoints.rows import QUERIES, Rows
from ..heads.base import Head
from ..ops.linear import Linear
from ..registry import MODELS
from ..structures import Branch, Memory, Reference, State, Targets
from .base import Made, QuerySource, expand

FEATURE = 'patch_feature'
"""What the features of the patches are called among the values of the objects."""


def stack_patches(samples: SampleList) -> Tensor | None:
    """(B, P, 3, h, w): the ``query_patches`` of the samples; None if they have none.

    Raises:
        ValueError: their numbers differ.
    """
    patches = [sample.get('query_patches') for sample in samples]
    if all(one is None for one in patches):
        return None
    counts = [0 if one is None else len(one) for one in patches]
    if len(set(counts)) > 1:
        raise ValueError(
            f'all images of a batch must have equally many query_patches, got {counts}; change the '
            'pipeline, or the number of patches of these images'
        )
    return torch.stack(patches)


@dataclass(frozen=True)
class PatchDraws:
    """The random numbers of a training step.

    Attributes:
        uniform: (B, N), in 0..1.
        order: (N,), the row of the embedding that each query gets.
    """

    uniform: Tensor
    order: Tensor


@MODELS.register_module()
class PatchQueries(QuerySource):
    """Learned queries, a group of which looks for each patch that comes with the images (Dai et al.,
    "UP-DETR", CVPR 2021, sections 3.1 and 3.2).

    The feature of a patch, a mean over the backbone's last map, is projected and added to the
    embeddings of its group; groups do not attend to each other. Where losses are computed, patch k is
    object k. Without patches, these are the queries of DETR.

    Args:
        num_queries: rows of the embedding, those of all groups.
        num_patches: of an image in training; ``num_queries`` must be a multiple. A detection takes any
            number of patches up to ``num_queries // size of a group``.
        drop: probability that a query goes without its patch, when losses are computed.
        shuffle: give the queries their embeddings in a random order, when losses are computed.
        backbone: of the detector, which passes it.
        feature_dims: channels of the backbone's last map.
    """

    def __init__(
        self,
        num_queries: int,
        backbone: nn.Module,
        feature_dims: int,
        embed_dims: int = 256,
        num_patches: int = 10,
        drop: float = 0.1,
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        if num_queries % num_patches:
            raise ValueError(
                'queries.num_queries must be a multiple of num_patches, got '
                f'{num_queries} and {num_patches}; change one of them'
            )
        self.num_queries = num_queries
        self.group = num_queries // num_patches
        self.drop = drop
        self.shuffle = shuffle
        self.embedding = nn.Embedding(num_queries, embed_dims)
        self.projection = Linear(feature_dims, embed_dims)
        self._backbone = (backbone,)  # in a tuple, as it is a submodule of the detector alone

    def patches(self, memory: Memory) -> Tensor | None:
        """(B, P, 3, h, w), normalised as the images are; None = none came with them."""
        return memory.patches

    def draw(self, batch: int, device: torch.device) -> PatchDraws:
        """The random numbers of a training step for ``batch`` images."""
        number = self.num_queries
        order = torch.randperm(number, device=device) if self.shuffle else self._identity(device)
        return PatchDraws(torch.rand(batch, number, device=device), order)

    def _identity(self, device: torch.device) -> Tensor:
        return torch.arange(self.num_queries, device=device)

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        patches = self.patches(memory)
        batch, device = memory.tokens.shape[0], memory.tokens.device
        draws = None if targets is None else self.draw(batch, device)
        order = self._identity(device) if draws is None else draws.order
        pos = expand(self.embedding(order), memory)
        if patches is None:
            # The projection takes part, so that every parameter has a gradient in every step.
            unused = self.projection(pos.new_zeros(self.projection.in_features)) * 0
            return self._state(pos + unused), None
        features = self.features(patches)
        shown = self.projection(features).repeat_interleave(self.group, 1)
        number = shown.shape[1]
        if number > self.num_queries or (draws is not None and number != self.num_queries):
            raise ValueError(
                f'{self.num_queries} queries in groups of {self.group} need '
                f'{self.num_queries // self.group} patches for each image (a detection takes fewer '
                f'too), got {patches.shape[1]}; change the number of patches, or queries.num_queries'
            )
        if draws is not None:
            shown = shown * (draws.uniform > self.drop)[..., None]
        group = torch.arange(number, device=device).div(self.group, rounding_mode='floor')
        state = self._state(pos[:, :number] + shown)
        state = replace(state, self_mask=(group[:, None] == group)[None, None])
        if targets is not None:
            branch = Branch(number, targets=targets.with_values(**{FEATURE: features}))
            state = replace(state, branches=(branch,))
        return state, None

    def features(self, patches: Tensor) -> Tensor:
        """(B, P, F): the mean of the backbone's last map over each of the patches (B, P, 3, h, w)."""
        (backbone,) = self._backbone
        return backbone(patches.flatten(0, 1))[-1].mean((2, 3)).unflatten(0, patches.shape[:2])

    @staticmethod
    def _state(pos: Tensor) -> State:
        return State(pos.new_zeros(()).expand_as(pos), pos)

    def place(self, ref: Reference, content: Tensor, memory: Memory) -> State:
        return State(content)

    def rows(self) -> dict[str, Rows]:
        return {'embedding.': Rows(QUERIES)}
