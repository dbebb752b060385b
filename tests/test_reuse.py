"""Parts of the project inside mmdet's own detectors, as docs/reuse.md shows them.

The assigner and the losses in DETR, Conditional DETR and DINO are in test_criterion_in_mmdet.py,
the deformable attention beside mmcv's in test_deformable_attention.py.
"""

from __future__ import annotations

import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention as MmcvAttention
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from test_criterion_in_mmdet import CONFIGS
from torch import Tensor, nn

from mmdetr_plugin.attention import MultiScaleDeformableAttention, replace_deformable_attention
from mmdetr_plugin.necks.encoder_neck import EncoderNeck
from mmdetr_plugin.structures import LogitReference, Memory, State

SIZE = (64, 96)


@pytest.fixture(scope='module', autouse=True)
def mmdet_types() -> None:
    register_all_modules(init_default_scope=False)


def build(model: ConfigDict) -> nn.Module:
    """Under mmdet's scope, without weights from the net."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(model)


def batch() -> tuple[Tensor, list[DetDataSample]]:
    """Two images with two objects each."""
    samples = []
    for boxes in ([[8, 10, 40, 50], [50, 20, 90, 60]], [[30, 8, 70, 40], [4, 30, 28, 60]]):
        shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), SIZE)
        sample = DetDataSample(metainfo=dict(shapes, scale_factor=(1, 1)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32), labels=torch.tensor([0, 1])
        )
        samples.append(sample)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *SIZE, generator=generator), samples


def total(losses: dict[str, Tensor | list[Tensor]]) -> Tensor:
    """Sum of what mmdet's heads call losses: tensors, or lists with one per level."""
    values = [value for key, value in losses.items() if 'loss' in key]
    return sum(sum(value) if isinstance(value, list) else value for value in values)


# ---- the encoder as a neck -----------------------------------------------------------------------

NECKS = {
    'faster-rcnn_r50_fpn': dict(
        type='mmdetr_plugin.EncoderNeck',
        in_channels=[256, 512, 1024, 2048],
        num_outs=5,
        num_fine=1,
    ),
    'retinanet_r50_fpn': dict(
        type='mmdetr_plugin.EncoderNeck',
        in_channels=[256, 512, 1024, 2048],
        num_outs=5,
        start_level=1,
    ),
}
"""What takes the place of ``neck`` in the base models of mmdet."""


def narrow_(model: ConfigDict, width: int = 32) -> None:
    """A Faster R-CNN or a RetinaNet on a thin ResNet-18, with heads of ``width`` channels."""
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=width)
    if 'bbox_head' in model:
        model.bbox_head.update(num_classes=3, in_channels=width, feat_channels=width)
        return
    model.rpn_head.update(in_channels=width, feat_channels=width)
    model.roi_head.bbox_roi_extractor.out_channels = width
    model.roi_head.bbox_head.update(num_classes=3, in_channels=width, fc_out_channels=width)


def with_encoder(name: str) -> ConfigDict:
    """mmdet's detector with the neck in FPN's place, small."""
    model = Config.fromfile(CONFIGS / '_base_' / 'models' / f'{name}.py').model
    assert model.neck.type == 'FPN'
    model.neck = ConfigDict(NECKS[name])
    narrow_(model)
    model.neck.update(num_layers=2, dropout=0.0, norm_cfg=dict(type='GN', num_groups=8))
    return model


@pytest.mark.parametrize('name', NECKS)
def test_encoder_serves_as_neck(name: str) -> None:
    """The maps have the strides of the FPN it replaces, and training goes down with them."""
    detector = build(with_encoder(name)).train()
    detector.init_weights()
    images, samples = batch()
    maps = detector.extract_feat(images)
    first = 4 if 'faster' in name else 8
    strides = [first * 2**i for i in range(5)]
    expected = [(2, 32, -(-SIZE[0] // s), -(-SIZE[1] // s)) for s in strides]
    assert [tuple(m.shape) for m in maps] == expected
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = total(detector.loss(images, samples))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), losses
    missing = [n for n, p in detector.neck.named_parameters() if p.grad is None]
    assert missing == []


def test_neck_is_the_encoder_of_the_detector() -> None:
    """With nothing left out: the maps of the encoder over the projected maps, without padding."""
    neck = EncoderNeck([4, 8], 32, num_outs=3, num_layers=1).eval()
    levels = [torch.randn(1, 4, 8, 12), torch.randn(1, 8, 4, 6)]
    seen: list[Memory] = []
    neck.encoder.register_forward_pre_hook(lambda module, args: seen.extend(args))
    outs = neck(levels)
    (memory,) = seen
    assert memory.shapes == ((8, 12), (4, 6), (2, 3))
    assert not memory.mask.any() and not memory.padded
    for out, expected in zip(outs, neck.encoder(memory).maps()):
        torch.testing.assert_close(out, expected)


def test_wrong_number_of_maps() -> None:
    for options in (dict(num_outs=2), dict(num_outs=4, num_fine=3)):
        with pytest.raises(ValueError, match=r'num_outs=\d must be .* maps read, 3, .* change num'):
            EncoderNeck([8, 16, 32], 32, **options)


# ---- our deformable attention in mmcv's place ----------------------------------------------------


def deformable(name: str) -> ConfigDict:
    """mmdet's config of a detector that uses mmcv's module, small."""
    files = {
        'deformable_detr': 'deformable-detr_r50_16xb2-50e_coco.py',
        'dino': 'dino-4scale_r50_8xb2-12e_coco.py',
        'mask2former': 'mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
    }
    model = Config.fromfile(CONFIGS / name / files[name]).model
    model.backbone.update(depth=18, base_channels=8, stem_channels=8, init_cfg=None)
    if name == 'mask2former':
        head = model.panoptic_head
        head.in_channels = [8, 16, 32, 64]
        head.pixel_decoder.encoder.num_layers = 2
        head.transformer_decoder.num_layers = 1
        return model
    model.neck.in_channels = [16, 32, 64]
    model.encoder.num_layers = model.decoder.num_layers = 2
    model.num_queries = 20
    return model


def outputs(detector: nn.Module) -> list[Tensor]:
    """What an evaluating detector computes before post-processing."""
    images, samples = batch()
    with torch.no_grad():
        if hasattr(detector, 'panoptic_head'):
            scores, masks = detector.panoptic_head(detector.extract_feat(images), samples)
            return [*scores, *masks]
        return [x for x in detector._forward(images, samples) if isinstance(x, Tensor)]


def kinds(detector: nn.Module) -> set[type]:
    return {type(m) for m in detector.modules() if isinstance(m, MmcvAttention)}


DETECTORS = ['deformable_detr', 'dino', 'mask2former']


@pytest.mark.parametrize('name', DETECTORS)
def test_deformable_attention_can_be_replaced(name: str) -> None:
    """Same state dict, same parameters, same outputs; our class and no other."""
    detector = build(deformable(name)).eval()
    detector.init_weights()
    generator = torch.Generator().manual_seed(2)
    for module in detector.modules():
        if isinstance(module, MmcvAttention):  # their weights start at zero
            module.attention_weights.weight.data.normal_(0, 0.2, generator=generator)
            module.sampling_offsets.weight.data.normal_(0, 0.05, generator=generator)
    state = {key: value.clone() for key, value in detector.state_dict().items()}
    parameters = dict(detector.named_parameters())
    expected = outputs(detector)
    assert kinds(detector) == {MmcvAttention}

    assert replace_deformable_attention(detector) is detector

    assert kinds(detector) == {MultiScaleDeformableAttention}
    assert not any(module.training for module in detector.modules())
    assert list(detector.state_dict()) == list(state)
    detector.load_state_dict(state)
    again = dict(detector.named_parameters())
    assert all(again[key] is value for key, value in parameters.items())
    got = outputs(detector)
    assert len(got) == len(expected) > 1
    for ours, theirs in zip(got, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', DETECTORS)
def test_weights_start_alike_after_the_replacement(name: str) -> None:
    """The runner initialises a model after it is built."""
    theirs, ours = (build(deformable(name)) for _ in range(2))
    replace_deformable_attention(ours)
    for detector in (theirs, ours):
        torch.manual_seed(3)
        detector.init_weights()
    expected = theirs.state_dict()
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, expected[key], msg=key)


def test_nothing_to_replace() -> None:
    with pytest.raises(ValueError, match=r"must contain mmcv's .* got a Linear without; give a"):
        replace_deformable_attention(nn.Linear(2, 2))


# ---- layers and ops by name ----------------------------------------------------------------------

OPS = {
    'SelfAttention': {},
    'DecoupledSelfAttention': {},
    'CrossAttention': {},
    'ConditionalCrossAttention': {},
    'DeformableAttention': dict(num_levels=1),
    'RowColumnCrossAttention': {},
    'SemanticAlignedAttention': {},
}


def queries_and_memory() -> tuple[State, Memory]:
    """Five queries with everything that an op may read, and one level of 2 x 3 cells."""
    tokens, pos = torch.randn(2, 2, 6, 32)
    memory = Memory(
        tokens,
        pos,
        mask=torch.zeros(2, 6, dtype=torch.bool),
        shapes=((2, 3),),
        valid_ratios=torch.ones(2, 1, 2),
        image_wh=torch.tensor([[96.0, 64.0]] * 2),
        padded=False,
    )
    content, query_pos, spatial = torch.randn(3, 2, 5, 32)
    ref = LogitReference(torch.randn(2, 5, 4))
    return State(content, query_pos, ref, spatial), memory


@pytest.mark.parametrize('name', OPS)
@pytest.mark.parametrize('scope', ['mmdet', 'mmengine'])
def test_ops_are_built_by_name(scope: str, name: str) -> None:
    state, memory = queries_and_memory()
    if name == 'RowColumnCrossAttention':
        state = State(state.content, state.pos)
    with DefaultScope.overwrite_default_scope(scope):
        op = MMDET_MODELS.build(dict(type=f'mmdetr_plugin.{name}', embed_dims=32, **OPS[name]))
    assert op(state, memory, 0).shape == (2, 5, 32)


@pytest.mark.parametrize('name', OPS)
def test_layers_are_built_by_name(name: str) -> None:
    """A decoder layer with any op: it changes the content and nothing else."""
    state, memory = queries_and_memory()
    if name == 'RowColumnCrossAttention':
        state = State(state.content, state.pos)
    layer = MMDET_MODELS.build(
        dict(
            type='mmdetr_plugin.DecoderLayer',
            embed_dims=32,
            cross_attn=dict(type=f'mmdetr_plugin.{name}', **OPS[name]),
        )
    )
    after = layer(state, memory, 0)
    assert after.content.shape == (2, 5, 32)
    assert not torch.equal(after.content, state.content)
    assert after.pos is state.pos and after.ref is state.ref


def test_encoder_layer_is_built_by_name() -> None:
    memory = queries_and_memory()[1]
    layer = MMDET_MODELS.build(
        dict(
            type='mmdetr_plugin.EncoderLayer',
            embed_dims=32,
            self_attn=dict(type='mmdetr_plugin.DeformableAttention', num_levels=1),
            ffn=dict(type='mmdetr_plugin.FeedForward', hidden_dims=64),
        )
    )
    tokens = State(memory.tokens, memory.pos, points=memory.centres())
    assert layer(tokens, memory, 0).content.shape == memory.tokens.shape


# ---- mmdet's Faster R-CNN as the papers' baseline ------------------------------------------------


@pytest.mark.parametrize('depth', [50, 101])
def test_baseline(depth: int) -> None:
    """GIoU for both box losses, random crop, 9 x 12 epochs; it trains."""
    from tiny import ROOT

    cfg = Config.fromfile(ROOT / 'configs' / 'baselines' / f'faster_rcnn_r{depth}_fpn_plus.py')
    assert cfg.model.backbone.depth == depth
    assert cfg.model.backbone.init_cfg.checkpoint == f'torchvision://resnet{depth}'
    assert 'RandomCrop' in str(cfg.train_dataloader.dataset.pipeline)
    assert cfg.train_cfg.max_epochs == 109
    narrow_(cfg.model)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        detector = MMDET_MODELS.build(cfg.model).train()
    for head in (detector.rpn_head, detector.roi_head.bbox_head):
        assert type(head.loss_bbox).__name__ == 'GIoULoss' and head.reg_decoded_bbox
    losses = detector.loss(*batch())
    assert set(losses) == {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'acc'}
    total(losses).backward()
    trained = [p for p in detector.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
