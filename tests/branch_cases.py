"""Branches of training queries, and batches for them whose noise is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor
from toy import QUERIES, SIZE, Places, make

from mmdetr_plugin.detector import DETR
from mmdetr_plugin.queries import DenoisingQueries
from mmdetr_plugin.queries.noise import NoiseDraws, NoiseLayout
from mmdetr_plugin.structures import Outputs, Targets

CLASSES = 3


def places(number: int = QUERIES) -> dict:
    return dict(type=Places, num_queries=number)


PLAIN = dict(type='DenoisingQueries', groups=2, unknown=True)
CONTRASTIVE = dict(
    type='DenoisingQueries', groups=2, contrastive=True, normalizer='detection', unknown=True
)
HYBRID = dict(type='HybridQueries', num_many=5, repeats=2)
SHARED = dict(type='GroupQueries', groups=2)
SEPARATE = dict(type='GroupQueries', groups=2, separate=True)
BRANCHES = {
    'plain': [PLAIN],
    'contrastive': [CONTRASTIVE],
    'hybrid': [HYBRID],
    'shared': [SHARED],
    'separate': [SEPARATE],
    'hybrid, denoised': [HYBRID, CONTRASTIVE],
    'groups, denoised': [SHARED, PLAIN],
    'separate groups, denoised': [SEPARATE, CONTRASTIVE],
    'twice denoised': [PLAIN, dict(CONTRASTIVE, prefix='cdn_')],
}
every_branch = pytest.mark.parametrize('branches', BRANCHES.values(), ids=BRANCHES)
denoised = pytest.mark.parametrize('branches', [[PLAIN], [CONTRASTIVE]], ids=['plain', 'contr.'])

BOXES = torch.tensor(
    [
        [4.0, 4, 20, 20],
        [10.0, 8, 40, 30],
        [24.0, 2, 46, 14],
        [2.0, 16, 12, 30],
        [30.0, 18, 44, 28],
        [16.0, 10, 28, 26],
    ]
)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])


def batch(*objects: Sequence[int]) -> tuple[Tensor, list[DetDataSample]]:
    """Images of 32 x 48 pixels, each with the objects of these numbers; 6 is a box without a width."""
    torch.manual_seed(1)
    images = torch.randn(len(objects), 3, *SIZE)
    boxes = torch.cat((BOXES, torch.tensor([[5.0, 5, 5, 20]])))
    labels = torch.cat((LABELS, torch.tensor([1])))
    samples = []
    for i, numbers in enumerate(objects):
        sample = DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, img_id=i))
        index = torch.tensor(numbers, dtype=torch.long)
        sample.gt_instances = InstanceData(bboxes=boxes[index], labels=labels[index])
        samples.append(sample)
    return images, samples


@contextmanager
def own_noise(model: DETR) -> Iterator[None]:
    """Every object has random numbers of its own, wherever in the batch it stands.

    They are told apart by label and box, and differ between groups and between positives and negatives.
    """

    def draw(layout: NoiseLayout) -> NoiseDraws:
        batch, size = len(layout.targets.counts), layout.size
        draws = NoiseDraws(
            torch.ones(batch, size),
            torch.zeros(batch, size, dtype=torch.long),
            torch.ones(batch, size, 4),
            torch.full((batch, size, 4), 0.5),
        )
        generator = torch.Generator()
        for image, boxes in enumerate(layout.targets.boxes):
            for query in range(size):
                slot, part = query % layout.slots, query // layout.slots
                if slot < len(boxes):
                    generator.manual_seed(int(1e4 * boxes[slot].sum()) + 31 * part)
                    draws.label[image, query] = torch.rand((), generator=generator)
                    draws.new_label[image, query] = torch.randint(CLASSES, (), generator=generator)
                    draws.sign[image, query] = torch.randint(2, (4,), generator=generator).float()
                    draws.box[image, query] = torch.rand(4, generator=generator)
        return draws

    sources = [part for part in model.modules() if isinstance(part, DenoisingQueries)]
    for source in sources:
        source.draw = draw
    try:
        yield
    finally:
        for source in sources:
            del source.draw


def build(branches: Sequence[dict], number: int = QUERIES, **parts: object) -> DETR:
    return make(queries=places(number), branches=branches, **parts)


def losses_of(model: DETR, *objects: Sequence[int]) -> dict[str, Tensor]:
    with own_noise(model):
        return model.loss(*batch(*objects))


def outputs_of(model: DETR, *objects: Sequence[int]) -> tuple[Outputs, Targets]:
    images, samples = batch(*objects)
    targets = Targets.from_samples(samples, CLASSES)
    with own_noise(model):
        return model.run(images, samples, targets), targets


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(value for key, value in losses.items() if 'loss' in key)


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert set(got) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-5, msg=key)
