"""Parts that a user writes in a file of their own: short, and used in every step of a training.

A head, a mask head, two losses, a source of queries, a position encoding and a residual replace those
of a config. With them a runner trains, validates, saves, resumes, tests, and starts from a checkpoint
of other classes.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_run
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional as F

from mmdetr_plugin.checkpoints import read_checkpoint
from mmdetr_plugin.checkpoints.rows import CLASSES, Rows
from mmdetr_plugin.criterion import Loss, Matched
from mmdetr_plugin.heads import Features, Head, MaskHead
from mmdetr_plugin.ops.mlp import MLP
from mmdetr_plugin.positions import PositionEncoding
from mmdetr_plugin.queries import QuerySource
from mmdetr_plugin.queries.base import Made
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.structures import (
    DenseMasks,
    LogitReference,
    Memory,
    Prediction,
    State,
    Targets,
)
from mmdetr_plugin.transformer.residuals import Residual

# ---- the user's file -----------------------------------------------------------------------------


@MODELS.register_module()
class PrototypeHead(Head):
    """Classes by the angle to a prototype of each, boxes that move on, and a guess of their IoU."""

    def __init__(self, num_classes: int, num_layers: int, embed_dims: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(num_classes, embed_dims))
        self.boxes = nn.ModuleList(MLP(embed_dims, embed_dims, 4, 2) for _ in range(num_layers))
        self.quality = nn.Linear(embed_dims, 1)

    def forward(
        self, hidden: Tensor, state: State, layer: int, predict: bool = True
    ) -> tuple[tuple[Prediction, ...], State]:
        box = state.ref.moved(self.boxes[layer](hidden), eps=1e-3)
        state = replace(state, ref=box.detach())
        if not predict:
            return (), state
        cosine = F.normalize(hidden, dim=-1) @ F.normalize(self.prototypes, dim=-1).T
        extra = {'quality': self.quality(hidden)}
        return (Prediction(10 * cosine - 4, box.unit(), hidden, extra),), state

    def rows(self) -> dict[str, Rows]:
        return {'prototypes': Rows(CLASSES)}


@MODELS.register_module()
class DotProductMasks(MaskHead):
    """A pixel belongs to a query as far as their vectors agree."""

    def __init__(self, in_channels: tuple[int, ...], embed_dims: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(in_channels[-1], embed_dims, 1)
        self.query = MLP(embed_dims, embed_dims, embed_dims, 2)

    def forward(self, predictions: tuple[Prediction, ...], features: Features) -> DenseMasks:
        fine = self.fine(features.levels[-1])
        coarse = F.interpolate(features.memory.maps()[0], size=fine.shape[-2:], mode='bilinear')
        query = self.query(predictions[-1].hidden)
        return DenseMasks(torch.einsum('bnc,bchw->bnhw', query, fine + coarse))


@MODELS.register_module()
class VarifocalLoss(Loss):
    """A class score should be the IoU of its box (VarifocalNet, CVPR 2021, equation 2)."""

    def forward(self, matched: Matched) -> Tensor:
        logits = matched.logits.flatten(1)  # (L, Q * K)
        column = matched.query * matched.num_classes + matched.labels
        target = torch.zeros_like(logits).scatter(1, column, matched.iou)
        positive = torch.zeros_like(logits).scatter(1, column, 1.0)
        weight = torch.where(positive > 0, target, 0.75 * logits.detach().sigmoid() ** 2)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight, reduction='none')
        loss = loss.unflatten(1, (-1, matched.num_classes)).sum(-1)
        if matched.trained is not None:
            loss = loss * matched.trained
        return self.loss_weight * loss.sum(1) / matched.num_boxes


@MODELS.register_module()
class QualityLoss(Loss):
    """What the head guesses should be the IoU of its box."""

    def forward(self, matched: Matched) -> Tensor:
        guess = matched.extra('quality').squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(guess, matched.iou, reduction='none')
        if matched.weights is not None:
            loss = loss * matched.weights
        return self.loss_weight * loss.sum(1) / matched.num_boxes


@MODELS.register_module()
class GridQueries(QuerySource):
    """Queries at the points of a grid over the image; their content is the memory there."""

    def __init__(self, side: int, embed_dims: int) -> None:
        super().__init__()
        self.side = side
        self.content = nn.Linear(embed_dims, embed_dims)

    def forward(self, memory: Memory, head: Head, targets: Targets | None = None) -> Made:
        steps = (torch.arange(self.side, device=memory.tokens.device) + 0.5) / self.side
        points = torch.cartesian_prod(steps, steps).expand(len(memory.tokens), -1, -1)
        places = points * memory.valid_ratios[:, :1]  # in the first level, which may be padded
        found = F.grid_sample(memory.maps()[0], 2 * places[:, None] - 1, align_corners=False)
        content = self.content(found[:, :, 0].transpose(1, 2))
        return State(content, ref=LogitReference(points.logit())), None


@MODELS.register_module()
class FourierPosition(PositionEncoding):
    """Sines and cosines of learned frequencies."""

    def __init__(self, embed_dims: int, num_levels: int) -> None:
        super().__init__(embed_dims, level_embed=True, num_levels=num_levels)
        self.frequencies = nn.Parameter(torch.randn(2, embed_dims // 2))

    def points(self, points: Tensor) -> Tensor:
        angle = 2 * math.pi * points @ self.frequencies
        return torch.cat((angle.sin(), angle.cos()), -1)

    def grid(self, mask: Tensor) -> Tensor:
        inside = (~mask).float()
        places = [inside.cumsum(dim) / inside.sum(dim, keepdim=True).clamp(min=1) for dim in (2, 1)]
        return self.points(torch.stack(places, -1))


@MODELS.register_module()
class LayerScale(Residual):
    """What a step adds, scaled channel by channel (CaiT, ICCV 2021)."""

    def __init__(self, embed_dims: int, start: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((embed_dims,), start))

    def forward(self, x: Tensor, update: Tensor) -> Tensor:
        return x + self.scale * update


# ---- what they do with it ------------------------------------------------------------------------

LINES = {
    PrototypeHead: 40,
    DotProductMasks: 40,
    VarifocalLoss: 20,
    QualityLoss: 20,
    GridQueries: 30,
    FourierPosition: 30,
    LayerScale: 20,
}
SIDE = 4


@pytest.mark.parametrize('part', LINES)
def test_parts_are_short(part: type) -> None:
    assert len(inspect.getsource(part).splitlines()) <= LINES[part]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.make_data(tmp_path_factory.mktemp('digits') / 'digits')


def config(data: Path, work_dir: Path, by: str, epochs: int = 2, masks: bool = True) -> Config:
    """A run of a digits model all of whose parts but attention are the user's.

    Args:
        by: whether types are the names of registered classes (``name``) or the classes themselves.
    """

    def part(cls: type, **options: object) -> dict:
        return dict(type=cls.__name__ if by == 'name' else cls, **options)

    cfg = tiny_run.config(data, work_dir, epochs)
    model = cfg.model
    model.position = part(FourierPosition)
    model.queries = part(GridQueries, side=SIDE)
    model.head = part(PrototypeHead)
    model.branches = [
        dict(type='DenoisingQueries', groups=2, contrastive=True, normalizer='detection')
    ]
    model.encoder.layer.residual = model.decoder.layer.residual = part(LayerScale)
    model.encoder.norm = True
    losses = model.criterion.losses
    losses.loss_cls = part(VarifocalLoss)
    losses.loss_quality = part(QualityLoss, loss_weight=0.5)
    cfg.val_evaluator = [
        dict(type='mmdetr_plugin.MeanScore'),
        dict(type='CocoMetric', ann_file=f'{data}/annotations/val.json', metric=['bbox']),
    ]
    if masks:
        model.backbone.out_indices = (0, *model.backbone.out_indices)
        model.neck.in_channels = [8 * 2**i for i in model.backbone.out_indices[1:]]
        model.mask_head = part(DotProductMasks)
        losses.loss_mask = dict(type='MaskFocalLoss')
        losses.loss_dice = dict(type='MaskDiceLoss')
        steps = cfg.train_dataloader.dataset.pipeline
        steps[:] = [step for step in steps if step.type != 'RandomAffine']  # it leaves masks behind
        next(step for step in steps if step.type == 'LoadAnnotations').with_mask = True
        cfg.val_evaluator[1].metric.append('segm')
    cfg.test_evaluator = cfg.val_evaluator
    return cfg


class Watch(Hook):
    """Keeps the weights that training starts from, and the losses of every step."""

    def __init__(self) -> None:
        self.start: dict[str, Tensor] = {}
        self.losses: list[dict[str, float]] = []

    def before_train_epoch(self, runner: Runner) -> None:
        if not self.start:
            self.start = {name: v.clone() for name, v in runner.model.state_dict().items()}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        self.losses.append({name: value.item() for name, value in outputs.items()})


@pytest.fixture(scope='module', params=['name', 'class'])
def by(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope='module')
def first(
    data: Path, by: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Runner, Watch]:
    """A run of two epochs with masks: its folder, and what was seen of it."""
    folder, watch = tmp_path_factory.mktemp('first'), Watch()
    return folder, tiny_run.train(config(data, folder, by), f'first {by}', watch), watch


def test_training_and_validation(first: tuple[Path, Runner, Watch]) -> None:
    folder, runner, watch = first
    assert len(watch.losses) == 4
    assert all(math.isfinite(value) for step in watch.losses for value in step.values())
    names = {'loss_cls', 'loss_bbox', 'loss_iou', 'loss_quality'}
    expected = {prefix + name for prefix in ('', 'd0.', 'dn_', 'd0.dn_') for name in names}
    assert expected | {'loss_mask', 'loss_dice'} == {
        name for name in watch.losses[0] if 'loss_' in name
    }
    own = ('position', 'queries.queries', 'head', 'mask_head', 'encoder.layers.0.ffn_out')
    for name, value in runner.model.named_parameters():
        if name.startswith(own):
            assert not torch.equal(value, watch.start[name]), name  # it is trained
    scores = read_checkpoint(folder / 'epoch_2.pth')['message_hub']['log_scalars']
    for name in ('val/mean_score', 'val/coco/bbox_mAP', 'val/coco/segm_mAP'):
        assert len(scores[name].data[0]) == 2


def test_detections(first: tuple[Path, Runner, Watch]) -> None:
    """Of the points of the grid alone, each with a mask."""
    _, runner, _ = first
    model = runner.model.eval()
    batch = next(iter(runner.val_dataloader))
    for sample in model.val_step(batch):
        found = sample.pred_instances
        assert len(found) == min(SIDE**2 * 10, model.postprocess.max_per_img)
        assert found.masks.shape == (len(found), *sample.ori_shape)
        assert found.bboxes.isfinite().all()


def test_resuming_continues_the_run(
    first: tuple[Path, Runner, Watch], data: Path, by: str, tmp_path: Path
) -> None:
    folder, _, _ = first
    cfg = config(data, tmp_path, by)
    cfg.load_from, cfg.resume = str(folder / 'epoch_1.pth'), True
    watch = Watch()
    tiny_run.train(cfg, f'resumed {by}', watch)
    saved = read_checkpoint(folder / 'epoch_1.pth')['state_dict']
    assert len(watch.losses) == 2
    assert watch.start.keys() == saved.keys()
    ours, theirs = (read_checkpoint(path / 'epoch_2.pth') for path in (tmp_path, folder))
    assert list(tiny_run.different(ours['state_dict'], theirs['state_dict'])) == []
    assert list(tiny_run.different(ours['optimizer'], theirs['optimizer'])) == []


def test_other_classes(
    first: tuple[Path, Runner, Watch], data: Path, by: str, tmp_path: Path
) -> None:
    """Rows of the user's head go by the names of the classes; the new model has no masks."""
    folder, _, _ = first
    file = folder / 'epoch_2.pth'
    cfg = config(data, tmp_path, by, epochs=1, masks=False)
    names = ('2', '5', '7')
    cfg.model.num_classes = 3
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.metainfo = dict(classes=names)
    cfg.load_from = str(file)
    watch = Watch()
    runner = tiny_run.train(cfg, f'finetuned {by}', watch)
    saved = read_checkpoint(file)['state_dict']
    rows = torch.tensor([int(name) for name in names])
    mapped = {'head.prototypes': rows, 'queries.labels.weight': torch.tensor([*rows, 10])}
    for name, value in watch.start.items():
        expected = saved[name][mapped[name]] if name in mapped else saved[name]
        assert torch.equal(value, expected), name
    assert len(runner.model.state_dict()['head.prototypes']) == 3
    assert all(math.isfinite(value) for step in watch.losses for value in step.values())


def test_testing_loads_the_checkpoint(
    first: tuple[Path, Runner, Watch], data: Path, by: str, tmp_path: Path
) -> None:
    folder, _, _ = first
    cfg = config(data, tmp_path, by)
    cfg.load_from, cfg.experiment_name = str(folder / 'epoch_2.pth'), f'tested {by}'
    scores = Runner.from_cfg(cfg).test()
    trained = read_checkpoint(folder / 'epoch_2.pth')['message_hub']['log_scalars']
    assert scores['mean_score'] == pytest.approx(trained['val/mean_score'].data[0][-1], abs=1e-4)
