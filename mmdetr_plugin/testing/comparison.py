"""Compares our model with a parity case: the largest difference of every array, and its tolerance."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from .noise import given_noise
from .parity import (
    Arrays,
    Case,
    detection_arrays,
    loss_arrays,
    output_arrays,
    run_model,
    segment_arrays,
)

INPUTS = ('dn/', 'updetr/')
"""What the names of given random numbers begin with."""
DETECTIONS = ('scores', 'labels', 'boxes')
MASK_SHARE, PANOPTIC_SHARE = 1e-3, 5e-3  # of the pixels


@dataclass(frozen=True)
class Row:
    """One comparison: the largest difference and its tolerance."""

    name: str
    difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = 'ok' if self.ok else 'FAILED'
        return f'{self.name:<72} {self.difference:12.3e} {self.tolerance:10.1e}  {verdict}'


def check(case: Case) -> tuple[list[Row], list[str]]:
    """Rows of all arrays that the model gives, and the names of golden arrays that it does not give.

    Where arrays differ, the case runs a second time without oneDNN, and an array holds if it holds in
    one of the two: on some processors oneDNN's convolutions lose a digit, which the large gains of some
    cases make visible. Both runs are in single precision; the question is whether the functions agree.
    """
    rows, absent = _check(case)
    if all(row.ok for row in rows):
        return rows, absent
    with torch.backends.mkldnn.flags(enabled=False):
        others, _ = _check(case)
    pairs = zip(rows, others, strict=True)
    return [row if row.ok else other for row, other in pairs], absent


def _check(case: Case) -> tuple[list[Row], list[str]]:
    model = case.model()
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    expected = case.spec['num_parameters_trainable']
    rows = [Row('num_parameters_trainable', abs(trainable - expected), 0)]
    batch, samples = case.batch()
    dn = {
        n.removeprefix(kind): v
        for kind in INPUTS
        for n, v in case.golden.items()
        if n.startswith(kind)
    }
    if case.spec['mode'] == 'loss':
        with given_noise(model, dn) if dn else nullcontext():
            run = run_model(model, batch, samples, loss=True)
        ours = output_arrays(model, run, case)
        ours.update(loss_arrays(model, run))
    else:
        with torch.no_grad():
            ours = output_arrays(model, run_model(model, batch, samples), case)
            ours.update(detection_arrays(model, batch, samples))
            ours.update(segment_arrays(model, batch, samples, case.spec))
        rows += detection_rows(case, ours)
        rows += panoptic_rows(case, ours)
    panoptic = (n for n in case.golden if n in ours and n.startswith('panoptic_'))
    inputs = (n for n in case.golden if n.startswith(INPUTS) and n not in ours)
    done = {*DETECTIONS, 'det_index', *panoptic, *inputs}
    names = [n for n in case.golden if n in ours and n not in done]
    rows += [compare(case, n, ours[n]) for n in names]
    absent = [n for n in case.golden if n not in ours and n not in done]
    return rows, absent


def compare(case: Case, name: str, ours: np.ndarray) -> Row:
    """One array against its golden value."""
    golden, tolerance = case.golden[name], case.spec['tolerance']
    images = case.spec.get('compare_images')
    if images is not None and golden.ndim > 1:
        axis = 1 if name.startswith('aux_') else 0
        golden, ours = golden.take(images, axis), ours.take(images, axis)
    if golden.shape != ours.shape:
        return Row(f'{name} (shape {ours.shape}, golden {golden.shape})', np.inf, 0)
    if golden.size == 0:
        return Row(name, 0.0, 0.0)
    if name == 'topk_index':  # the order of tokens without a proposal is arbitrary
        golden = np.where(ours < 0, ours, golden)
    difference = np.abs(ours.astype(np.float64) - golden.astype(np.float64)).max()
    if name.startswith('segm_'):
        return instance_row(case, name, ours)
    if golden.dtype.kind in 'iub':
        return Row(name, float(difference), 0.0)
    if name.startswith('grad_norm/'):
        largest = max(float(v) for k, v in case.golden.items() if k.startswith('grad_norm/'))
        floor = tolerance['grad_norm_floor'] * largest
        if max(float(golden), float(ours)) < floor:  # zero in exact arithmetic: noise
            return Row(name, float(difference), floor)
        return Row(name, float(difference), tolerance['grad_norm_rtol'] * float(golden) + floor)
    if name.startswith('grad_scalar/'):  # sums that nearly cancel
        largest = max(abs(float(v)) for k, v in case.golden.items() if k.startswith('grad_scalar/'))
        return Row(name, float(difference), tolerance['grad_scalar_atol'] * largest)
    if name.startswith('loss'):
        return Row(name, float(difference), tolerance['losses_rtol'] * max(float(golden), 1.0))
    kind = next((k for k in ('boxes', 'masks') if k in name), 'logits')
    return Row(name, float(difference), tolerance[f'{kind}_atol'])


def instance_row(case: Case, name: str, ours: np.ndarray) -> Row:
    """The share of pixels that differ, because those on a boundary may fall on either side."""
    ours, golden = ours.astype(np.int64), case.golden[name].astype(np.int64)
    if ours.shape != golden.shape:
        return Row(f'{name} (shape {ours.shape}, golden {golden.shape})', np.inf, 0)
    if name == 'segm_area':
        pixels = np.prod(case.hyper['original_sizes'], 1)[:, None]
        return Row(name, float((np.abs(ours - golden) / pixels).max()), MASK_SHARE)
    bits = np.unpackbits((ours ^ golden).astype(np.uint8), axis=-1)
    return Row(name, float(bits.mean()), MASK_SHARE)


def panoptic_rows(case: Case, ours: Arrays) -> list[Row]:
    """Compare segments one by one, and the share of pixels of all images that lie in another segment.

    Which of several nearly equal masks gets a pixel depends on differences far below the tolerance of
    masks: in single precision even the official code differs from the golden ids.
    """
    rows, different, pixels = [], 0, 0
    for i in range(len(case.spec['sizes'])):
        name = f'panoptic_segments_{i}'
        if name not in ours:
            return []
        golden, segments, size = case.golden[name], ours[name], ours[f'panoptic_ids_{i}'].size
        if golden.shape != segments.shape or (golden[:, :3] != segments[:, :3]).any():
            rows.append(Row(f'{name} (not the same segments)', np.inf, 0))
        else:
            area = np.abs(golden[:, 3] - segments[:, 3]).max(initial=0) / size
            rows.append(Row(f'{name} (share of pixels)', float(area), PANOPTIC_SHARE))
        different += (ours[f'panoptic_ids_{i}'] != case.golden[f'panoptic_ids_{i}']).sum()
        pixels += size
    return [*rows, Row('panoptic_ids (share of pixels)', float(different / pixels), PANOPTIC_SHARE)]


def detection_rows(case: Case, ours: Arrays) -> list[Row]:
    """Compare the sorted scores, and each golden detection with our nearest one of its class.

    A golden detection whose score ties with the lowest one may be missing from our list.
    """
    golden, tolerance = case.golden, case.spec['tolerance']
    images = case.spec.get('compare_images') or range(len(golden['scores']))
    scores = boxes = 0.0
    for i in images:
        ranked = [np.sort(x['scores'][i])[::-1] for x in (golden, ours)]
        if len(ranked[0]) != len(ranked[1]):
            return [Row('scores (number of detections)', np.inf, 0)]
        scores = max(scores, float(np.abs(ranked[0] - ranked[1]).max()))
        extent = max(case.spec['sizes'][i])
        for score, label, box in zip(*(golden[k][i] for k in DETECTIONS), strict=True):
            same = ours['labels'][i] == label
            if not same.any() and score - ranked[0][-1] < tolerance['logits_atol']:
                continue
            near = np.abs(ours['scores'][i] - score) < tolerance['logits_atol']
            distance = np.abs(ours['boxes'][i] - box).max(-1) / extent
            distance = np.where(same & near, distance, np.inf).min()
            if np.isfinite(distance) or score - ranked[0][-1] > tolerance['logits_atol']:
                boxes = max(boxes, float(distance))
    return [
        Row('scores', scores, tolerance['logits_atol']),
        Row('labels and boxes', boxes, 2 * tolerance['boxes_atol']),
    ]
