"""Which numbers an argument may have, by its name."""

from __future__ import annotations

from .hints import ANY, Range

POSITIVE = Range(1)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)
ABOVE_ZERO = Range(0, open=True)

SIZES = dict.fromkeys(
    (
        *('embed_dims', 'hidden_dims', 'hidden_channels', 'encoder_dims', 'out_dims'),
        *('feature_dims', 'map_dims', 'in_channels', 'out_channels', 'base_channels'),
        *('num_heads', 'num_layers', 'num_levels', 'num_points', 'num_queries', 'num_classes'),
        *('num_outs', 'num_stages', 'depth', 'depths', 'kernel_size', 'patch_size', 'strides'),
        *('dilations', 'window_size', 'stem_channels', 'pad_size_divisor', 'num_groups'),
    ),
    POSITIVE,
)
"""Of any class, whoever wrote it."""

OWN = {
    **dict.fromkeys(
        (
            *('groups', 'repeats', 'num_many', 'num_patches', 'num_blocks', 'region_size'),
            *('q_hashes', 'k_hashes', 'max_size', 'max_per_img', 'max_candidates', 'chunk'),
            *('windows', 'grid_size', 'im2col_step', 'sizes', 'max_nonfinite_steps', 'stride'),
            *('AnchorQueries.num_patterns', 'SpatialTuningAdapter.channels'),
        ),
        POSITIVE,
    ),
    **dict.fromkeys(
        (
            *('num_patterns', 'num_things', 'min_area', 'num_fine', 'start_level', 'layer'),
            *('group', 'num_denoising', 'encoder', 'level_embed', 'loss_weight', 'weight'),
            'background_weight',
            *('unmatched_weight', 'alpha', 'beta', 'gamma', 'eps', 'box_noise', 'class_weight'),
        ),
        NOT_NEGATIVE,
    ),
    **dict.fromkeys(
        (
            *('dropout', 'drop', 'prob', 'label_noise', 'iou_threshold', 'threshold'),
            *('score_thr', 'positive', 'kept'),
        ),
        SHARE,
    ),
    **dict.fromkeys(
        (
            *('temperature', 'reach', 'scale', 'width', 'expansion', 'scales', 'limit', 'radius'),
            'ratio',
        ),
        ABOVE_ZERO,
    ),
    'class_prior': Range(0, 1, open=True),
    'base_size': Range(0, 1, open=True),
    'prediction_eps': Range(0, 0.5),
    'num_bins': Range(2),
    'Encoder.num_layers': NOT_NEGATIVE,
    'HungarianAssigner.max_nonfinite_steps': NOT_NEGATIVE,
    **dict.fromkeys(
        ('FocalClassLoss.alpha', 'FocalCost.alpha', 'MaskFocalLoss.alpha'),
        SHARE,
    ),
}
"""Of the classes of this package; ``Class.name`` where a name means something else in that class."""


def range_of(cls: type, name: str) -> Range:
    """The numbers that the argument ``name`` of ``cls`` may have."""
    if cls.__module__.partition('.')[0] == __name__.partition('.')[0]:
        found = OWN.get(f'{cls.__name__}.{name}') or OWN.get(name)
        if found is not None:
            return found
    return SIZES.get(name, ANY)
