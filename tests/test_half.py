"""`model.half()` and `model.bfloat16()`: whole models in half precision."""

from __future__ import annotations

import pytest
import tiny
import torch

NAMES = ('dab_detr_r50', 'd_fine_s', 'deformable_detr_two_stage_r50', 'detr_panoptic_r50')
NAMES += ('lw_detr_tiny', 'sam_detr_r50', 'smca_detr_ms_r50', 'tsp_fcos_r50')


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('name', NAMES)
def test_models_of_half_precision_predict(name: str, dtype: torch.dtype) -> None:
    """The boxes are near those of single precision, and are computed in it at the end."""
    model = tiny.build(name)
    images, samples = tiny.batch()
    with torch.no_grad(), tiny.fixed_selection(model):
        expected = model(images, samples, mode='tensor')
        model.to(dtype)
        got = model(images, samples, mode='tensor')
        found = model.predict(images, samples)
    assert got['pred_boxes'].dtype == torch.float32
    assert (got['pred_boxes'] - expected['pred_boxes']).abs().max() < 0.05
    assert all(value.isfinite().all() for value in got.values())
    assert all(len(sample.pred_instances) > 0 for sample in found)
