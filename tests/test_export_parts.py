"""What exported graphs compute in another form than eager execution: the same, run eagerly."""

from __future__ import annotations

from unittest import mock

import pytest
import tiny
import torch
from mmcv.ops import batched_nms
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch.nn import functional as F

import mmdetr_plugin.export.check as check
from mmdetr_plugin.export import DetectionGraph, Interface
from mmdetr_plugin.export.interface import interface_of
from mmdetr_plugin.heads import SigmoidTopK
from mmdetr_plugin.ops import exporting
from mmdetr_plugin.ops.boxes import cxcywh_to_xyxy
from mmdetr_plugin.ops.deformable_levels import _tables
from mmdetr_plugin.ops.nms import apart, distinct
from mmdetr_plugin.transformer.embedding import nearest_cells

CPU = torch.device('cpu')


def overlapping(batch: int = 2, number: int = 60) -> tuple[torch.Tensor, ...]:
    """Boxes xyxy, scores and labels of which many suppress others."""
    generator = torch.Generator().manual_seed(0)
    boxes = 0.3 + 0.4 * torch.rand(batch, number, 4, generator=generator)
    labels = torch.randint(0, 3, (batch, number), generator=generator)
    return cxcywh_to_xyxy(boxes), torch.rand(batch, number, generator=generator), labels


def test_suppression_by_groups_is_mmcvs() -> None:
    boxes, scores, labels = overlapping()
    kept = distinct(apart(boxes, labels), scores, 0.5)
    assert 0 < kept.sum() < kept.numel()
    for image in zip(boxes, scores, labels, kept):
        _, index = batched_nms(*image[:3], {'type': 'nms', 'iou_threshold': 0.5})
        assert image[3].nonzero().squeeze(1).tolist() == sorted(index.tolist())


@pytest.mark.parametrize('nms', [None, {'type': 'nms', 'iou_threshold': 0.5}])
def test_what_is_kept_is_what_is_selected(nms: dict | None) -> None:
    boxes, scores, labels = overlapping()
    post = SigmoidTopK(60, score_thr=0.2, nms=nms)
    kept = post.kept(scores, labels, boxes)
    for i in range(len(boxes)):
        one = InstanceData(bboxes=boxes[i], scores=scores[i], labels=labels[i])
        selected = post.select(one).scores.sort().values
        torch.testing.assert_close(scores[i][kept[i]].sort().values, selected)


def test_other_suppression_is_refused() -> None:
    post = SigmoidTopK(5, nms={'type': 'soft_nms', 'iou_threshold': 0.5})
    with pytest.raises(ValueError, match=r'needs a postprocess\.nms of the form .* got .*soft_nms'):
        post.kept(torch.rand(1, 5), torch.zeros(1, 5), torch.rand(1, 5, 4))


def test_cells_are_those_of_a_nearest_neighbour_resize() -> None:
    for length in (*range(1, 200), 640, 800, 1066, 1333):
        pixels = torch.arange(length).float()[None, None]
        for stride in (4, 8, 14, 16, 32, 64, 128):
            number = -(-length // stride)
            resized = F.interpolate(pixels, size=number)[0, 0].long()
            assert nearest_cells(length, number, CPU).equal(resized)


def test_tables_of_levels_are_the_same_in_an_export() -> None:
    shapes = ((12, 16), (6, 8), (3, 4))
    with mock.patch.object(torch.jit, 'is_tracing', lambda: True):
        assert exporting.exporting()
        for made, wanted in zip(_tables(shapes, CPU), ([[12, 16], [6, 8], [3, 4]], [0, 192, 240])):
            assert made.tolist() == wanted


@torch.no_grad()
def test_regions_are_those_that_the_rpn_predicts() -> None:
    model = tiny.build('tsp_rcnn_r50')
    images, samples = tiny.batch()
    head = model.queries.rpn_head
    maps = model.extract_feat(images)[1:]
    wh = torch.tensor([sample.img_shape[::-1] for sample in samples]).float()
    boxes, kept = head.select(maps, wh)
    metas = [
        DetDataSample(metainfo={'img_shape': s.img_shape, 'scale_factor': (1.0, 1.0)})
        for s in samples
    ]
    found = head.predict(maps, metas, rescale=False)
    for box, keep, one in zip(boxes, kept, found):
        torch.testing.assert_close(box[keep], one.bboxes)


@pytest.mark.parametrize(
    'name', ['detr_r50', 'rt_detr_r18', 'smca_detr_r50', 'tsp_fcos_r50', 'detr_panoptic_r50']
)
def test_the_graph_run_eagerly_finds_what_the_model_finds(name: str) -> None:
    """Normalisation, padding and post-processing included."""
    model, cfg = tiny.build(name), tiny.load(name)
    interface = interface_of(cfg, 1, tuple('abcde'))
    graph = DetectionGraph(model)
    images = check.pictures(interface, 2, (96, 128))
    inputs = check.inputs_of(interface, images, (96, 128))
    with torch.no_grad():
        given = {key: torch.from_numpy(value) for key, value in inputs.items()}
        found = graph.find(**given).named()
    for i, wanted in enumerate(check.expected(model, images)):
        got = {key: value[i].numpy() for key, value in found.items()}
        assert check.difference(got, wanted).within(0.1)


def test_interfaces_follow_the_pipeline() -> None:
    cfg = tiny.load('detr_r50')
    assert interface_of(cfg, 1, ('a',)) == Interface((1333, 800), True, 32, None, ('a',))
    cfg = tiny.load('rt_detr_r18')
    assert interface_of(cfg, 64, ('a',)) == Interface((640, 640), False, 64, None, ('a',))
    fixed = interface_of(cfg, 1, ('a',), (100, 200))
    assert fixed.names == ('images',) and fixed.fixed == (100, 200)
    with pytest.raises(ValueError, match='multiples of 32, got 100 200; take 128 224'):
        interface_of(cfg, 32, ('a',), (100, 200))
    pipeline = [{'type': 'LoadImageFromFile'}, {'type': 'PackDetInputs'}]
    loader = {'dataset': {'type': 'CocoDataset', 'pipeline': pipeline}}
    with pytest.raises(ValueError, match=r'must have one step Resize with a scale .* got \[\]'):
        interface_of(Config({'test_dataloader': loader}), 1, ('a',))
