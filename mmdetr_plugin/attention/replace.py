"""Puts our deformable attention into a detector that was built with mmcv's."""

from __future__ import annotations

from mmcv.ops import MultiScaleDeformableAttention as MmcvAttention
from torch import nn

from .deformable import MultiScaleDeformableAttention

# mmdet initialises the weights of what is an instance of mmcv's class, so ours has to be one.
MmcvAttention.register(MultiScaleDeformableAttention)


def replace_deformable_attention(model: nn.Module) -> nn.Module:
    """Replace every module of mmcv's class by :class:`MultiScaleDeformableAttention`.

    mmdet's layers name mmcv's class in their code, so a config cannot choose another. Parameters
    stay the same objects under the same names: checkpoints load as before, and an optimizer that
    was created before remains valid. The replacement works before and after ``init_weights``, on a
    model or a part of one.

    Returns:
        ``model``, changed in place.

    Raises:
        ValueError: there is nothing to replace.
    """
    made: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            # A subclass may compute something else.
            if child is not None and type(child) is MmcvAttention:
                made[child] = made.get(child) or _ours(child)
                parent._modules[name] = made[child]
    if not made:
        raise ValueError(
            f"the model must contain mmcv's MultiScaleDeformableAttention, got a "
            f'{type(model).__name__} without; give a model that is built and uses it'
        )
    return model


def _ours(theirs: MmcvAttention) -> MultiScaleDeformableAttention:
    ours = MultiScaleDeformableAttention(
        theirs.embed_dims,
        theirs.num_heads,
        theirs.num_levels,
        theirs.num_points,
        batch_first=theirs.batch_first,
        value_proj_ratio=theirs.value_proj.out_features / theirs.embed_dims,
    )
    for name, child in theirs.named_children():  # projections and dropout
        setattr(ours, name, child)
    return ours.train(theirs.training)
