"""What users get wrong, and what they are told: each message names what must hold and the remedy.

Options of a single part are tested with that part.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest
import tiny
import torch
from criterion_cases import warned  # noqa: F401
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_checkpoint
from torch import Tensor, nn

from mmdetr_plugin.checkpoints import from_official, read_checkpoint, to_official
from mmdetr_plugin.registry import MODELS


def build(name: str, **options: object) -> nn.Module:
    """The shrunk model of a config with values set by their dotted names."""
    model = tiny.shrink(tiny.load(name).model)
    for key, value in options.items():
        *path, last = key.split('__')
        node = model
        for part in path:
            node = node[part]
        node[last] = value
    return MODELS.build(model).eval()


# ---- configs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'slot', 'near'),
    [
        ({'queries__type': 'LearndQueries'}, 'queries', 'LearnedQueries'),
        ({'decoder__layer__cross_attn__type': 'CrossAttn'}, 'cross_attn', 'CrossAttention'),
        ({'encoder__layer__self_attn__type': 'SelfAtention'}, 'self_attn', 'SelfAttention'),
        ({'head__type': 'Head'}, 'head', 'SetHead'),
        ({'backbone__type': 'DilatedResnet'}, 'backbone', 'DilatedResNet'),
        ({'postprocess__type': 'TopK'}, 'postprocess', 'SigmoidTopK'),
    ],
)
def test_unknown_type(options: dict, slot: str, near: str) -> None:
    text = rf"slot 'model\..*{slot}' must name a registered type, got '.*'; did you mean .*{near}"
    with pytest.raises(ValueError, match=text):
        build('detr_r50', **options)


@pytest.mark.parametrize(
    ('kind', 'remedy'),
    [
        ('mmpretrain.ConvNeXt', 'mmpretrain is not installed: pip install mmpretrain'),
        ('nowhere.Backbone', 'nowhere is not installed: install it, or correct its name'),
    ],
)
def test_type_of_a_package_that_is_not_installed(kind: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"'model.backbone' must name .* got '{kind}'; {remedy}"):
        build('detr_r50', backbone={'type': kind})


def test_slot_without_a_type() -> None:
    with pytest.raises(
        ValueError, match=r"slot 'model.queries' needs a dict with a 'type', got .*add type"
    ):
        build('detr_r50', queries={'num_queries': 3})


@pytest.mark.parametrize(
    ('option', 'slot'),
    [
        ('queries__number', 'queries'),
        ('decoder__layer__cross_attn__heads', 'cross_attn'),
        ('head__num_clases', 'head'),
        ('neck__channels', 'neck'),
    ],
)
def test_unknown_argument(option: str, slot: str) -> None:
    name = option.rsplit('__', 1)[-1]
    text = rf"slot 'model\..*{slot}': \w+ takes .* got \['{name}'\]; remove"
    with pytest.raises(ValueError, match=text):
        build('detr_r50', **{option: 1})


def test_arguments_of_the_criterion_that_are_no_losses() -> None:
    text = r"names of losses must begin with 'loss' .* got \['box_loss'\]; rename or remove them"
    with pytest.raises(ValueError, match=text):
        build('detr_r50', criterion__box_loss={'type': 'BoxL1Loss'})
    with pytest.raises(ValueError, match=r'model.criterion.losses.loss_box must be a dict, got 1;'):
        build('detr_r50', criterion__loss_box=1)


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'embed_dims': 36}, 'embed_dims must be divisible by num_heads, got 36 and 8; change one'),
        (
            {'embed_dims': 30},
            'embed_dims must be a multiple of 4 for sine codes, got 30; change',
        ),
        ({'head__refine': 'often'}, r"head.refine must be one of \('none', .* got 'often'; change"),
        ({'encoder__layer__ffn': {'type': 'FeedForward', 'activation': 'Relu'}}, "got 'Relu'"),
    ],
)
def test_values_that_do_not_fit(options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build('detr_r50', **options)


@pytest.mark.parametrize(
    ('name', 'options', 'text'),
    [
        (
            'detr_r50',
            {'neck__out_channels': 40},
            'the neck must give embed_dims=32 channels, got 40; change neck.out_channels or',
        ),
        (
            'detr_r50',
            {'neck__in_channels': [2048]},
            r'in_channels must be those of .* last maps, \[64\], got \[2048\]; leave it out, or',
        ),
        (
            'deformable_detr_r50',
            {'backbone__out_indices': (2, 3), 'neck__in_channels': [16, 32, 64]},
            r"must be those of the backbone's last maps, \[32, 64\], got \[16, 32, 64\]",
        ),
        (
            'deformable_detr_r50',
            {'neck__num_outs': 3},
            r'level_embed must be the number of feature levels \(3\), got 4; change position',
        ),
        (
            'deformable_detr_r50',
            {'encoder__layer__self_attn__num_levels': 3},
            'built for num_levels=3, got 4 feature levels; make neck outputs and num_levels agree',
        ),
        (
            'deformable_detr_r50',
            {'decoder__layer__cross_attn__num_levels': 5},
            'built for num_levels=5, got 4 feature levels',
        ),
        (
            'deformable_detr_two_stage_r50',
            {'head__encoder': False},
            'queries selected from the encoder need head.encoder=True, got False; set it',
        ),
        (
            'conditional_detr_r50',
            {'queries__reference': None},
            'the query position needs references with 2 coordinates, got 0; choose queries',
        ),
    ],
)
def test_parts_that_do_not_fit_together(name: str, options: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        build(name, **options)(*tiny.batch(), mode='tensor')


@pytest.mark.parametrize(
    ('part', 'text'),
    [
        ('encoder', r"slot 'model.encoder': Encoder needs \['num_layers'\], got .*; state them"),
        ('decoder', r'decoder.num_layers must be a positive integer, got None; state it'),
    ],
)
def test_the_number_of_layers_must_be_stated(part: str, text: str) -> None:
    cfg = tiny.shrink(tiny.load('detr_r50').model)
    del cfg[part]['num_layers']
    with pytest.raises(ValueError, match=text):
        MODELS.build(cfg)


def test_softmax_loss_needs_its_column() -> None:
    model = build('detr_r50', head__extra_column=False)
    with pytest.raises(ValueError, match=r'needs num_classes \+ 1 = 6 columns.* got 5; state'):
        model.loss(*tiny.batch())


# ---- data ----------------------------------------------------------------------------------------


@pytest.fixture(scope='module', params=['detr_r50', 'deformable_detr_two_stage_r50'])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return tiny.build(request.param)


@pytest.mark.parametrize('label', [tiny.NUM_CLASSES, 90, -1])
def test_label_out_of_range_names_image_and_label(model: nn.Module, label: int) -> None:
    images, samples = tiny.batch()
    samples[1].set_metainfo({'img_path': 'train/17.jpg'})
    samples[1].gt_instances.labels[0] = label
    text = (
        rf'labels must lie in \[0, num_classes = 5\), got {label} in image train/17.jpg; set model'
    )
    with pytest.raises(ValueError, match=text):
        model.loss(images, samples)


def test_more_objects_than_queries_are_counted(model: nn.Module, warned: list[str]) -> None:  # noqa: F811
    losses = copy.deepcopy(model).loss(*tiny.batch((20, 30)))
    assert losses['unmatched_gt'] == 20 + 30 - 2 * tiny.NUM_QUERIES
    assert all(value.isfinite() for value in losses.values())
    (line,) = (line for line in warned if 'queries' in line)
    assert '1 has 30 objects, more than the 12 queries: 26 objects of this batch' in line
    assert 'raise num_queries' in line


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('what', ['class', 'box'])
def test_predictions_that_are_not_finite(
    model: nn.Module,
    value: float,
    what: str,
    warned: list[str],  # noqa: F811
) -> None:
    model = copy.deepcopy(model)
    images, samples = tiny.batch((12, 2))
    original = type(model.head).forward
    spoiled: list[Tensor] = []

    def spoil(hidden: Tensor, state: object, layer: int, predict: bool = True) -> tuple:
        predictions, state = original(model.head, hidden, state, layer, predict)
        if layer == 1:
            field = 'logits' if what == 'class' else 'boxes'
            tensor = getattr(predictions[-1], field).clone()
            tensor[0, 3] = value if what == 'class' else torch.tensor(value).sigmoid()
            tensor.retain_grad()
            spoiled.append(tensor)
            predictions = (*predictions[:-1], replace(predictions[-1], **{field: tensor}))
        return predictions, state

    model.head.forward = spoil
    losses = model.loss(images, samples)
    assert {'loss_cls', 'loss_bbox', 'loss_iou'} <= set(losses)
    if what == 'class' or value != value:  # the sigmoid of an infinite box is finite
        (line,) = warned
        assert 'NaN or infinite matching costs in decoder layer 1, 0 (' in line
        assert ('class' in line) == (what == 'class')
        assert 'objects went to finite queries' in line
    losses['loss_cls' if what == 'class' else 'loss_bbox'].backward()
    (tensor,) = spoiled
    others = torch.arange(tensor.shape[1]) != 3
    assert tensor.grad[0, others].isfinite().all() and tensor.grad[1].isfinite().all()
    assert tensor.grad[0, others].any()
    # Where there are queries enough, the faulty one gets no object, so no box loss of its own.
    few = model.loss(*tiny.batch((3, 2)))
    assert few['loss_bbox'].isfinite() and few['loss_iou'].isfinite()
    assert few['loss_cls'].isfinite() or what == 'class'


def test_fewer_pairs_than_detections_wanted() -> None:
    """4 queries x 5 classes and max_per_img = 100: mmdet's heads fail in topk here."""
    model = tiny.randomise_(build('deformable_detr_r50', queries__num_queries=4))
    for sample in model.predict(*tiny.batch()):
        assert len(sample.pred_instances) == 20


def test_fewer_tokens_than_queries() -> None:
    model = tiny.randomise_(build('deformable_detr_two_stage_r50', queries__num_queries=500))
    outputs = model(*tiny.batch(), mode='tensor')
    assert outputs['pred_logits'].shape[2] == outputs['enc_logits'].shape[1] < 500
    assert all(value.isfinite() for value in model.loss(*tiny.batch()).values())


# ---- weights -------------------------------------------------------------------------------------


def test_backbone_weights_that_are_not_there(tmp_path: Path) -> None:
    model = build('detr_r50')
    file = tmp_path / 'resnet50.pth'
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(file))
    text = (
        rf'the backbone needs its ImageNet weights, but {file} could not be read .*offline.*'
        r'model\.backbone\.init_cfg\.checkpoint=FILE, or model\.backbone\.init_cfg=None'
    )
    with pytest.raises(RuntimeError, match=text):
        model.init_weights()


def test_backbone_weights_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError('Name or service not known')

    monkeypatch.setattr('mmengine.runner.checkpoint.load_url', offline)
    model = build('detr_r50')
    address = tiny.load('detr_r50').model.backbone.init_cfg
    model.backbone.init_cfg = address
    text = rf'but {re.escape(address.checkpoint)} could not be read \(.*not known.*offline'
    scope = DefaultScope.overwrite_default_scope('mmdetr_plugin')
    with scope, pytest.raises(RuntimeError, match=text):
        model.init_weights()


def test_official_checkpoint_of_another_model() -> None:
    detr, deformable = tiny.build('detr_r50'), tiny.build('deformable_detr_r50')
    official = to_official(detr.state_dict(), detr)
    for load in (
        lambda: from_official(official, deformable),
        lambda: deformable.load_state_dict(official),
    ):
        with pytest.raises(ValueError, match=r"must be a 'deformable' checkpoint") as caught:
            load()
        text = str(caught.value)
        assert re.search(r'missing: input_proj\.0\.0\.weight \(nearest: input_proj\.weight', text)
        assert re.search(r'not of this model: \S+', text)
        assert 'use the config that this checkpoint was made with' in text


def test_checkpoint_of_another_model(tmp_path: Path) -> None:
    file = tmp_path / 'epoch_1.pth'
    torch.save({'state_dict': tiny.build('detr_r50').state_dict()}, file)
    model = tiny.build('deformable_detr_r50')
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r'must be a checkpoint of this model.*\n  missing: neck'):
        load_checkpoint(model, str(file))  # as the runner does: not strict
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_checkpoint_of_another_number_of_classes() -> None:
    official = to_official(tiny.build('detr_r50').state_dict(), tiny.build('detr_r50'))
    other = tiny.build('detr_r50', num_classes=3)
    text = r'class_branches.0.weight: file \(6, 32\), model \(4, 32\)\n(.*\n)*set model.num_classes'
    with pytest.raises(ValueError, match=text):
        from_official(official, other)


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        (b'not a checkpoint', 'must hold tensors and plain values only|must be a checkpoint'),
        (b'', 'must be a checkpoint written by torch.save.*cut short'),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / 'weights.pth'
    file.write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read_checkpoint(file)


def test_files_that_run_code_or_are_cut_short(tmp_path: Path) -> None:
    file = tmp_path / 'weights.pth'
    torch.save({'model': {}, 'hook': Path}, file)
    with pytest.raises(ValueError, match='loading it would run other code'):
        read_checkpoint(file)
    torch.save({'model': {'weight': torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r'cannot be read .* cut short: copy it again'):
        read_checkpoint(file)
    torch.save([1, 2], file)
    with pytest.raises(ValueError, match='must hold a dictionary of weights, got list; save'):
        read_checkpoint(file)
    with pytest.raises(FileNotFoundError, match=r'the checkpoint must be a file, got .*gone.pth'):
        read_checkpoint(tmp_path / 'gone.pth')


@pytest.mark.parametrize('value', [None, '3', 0, True])
def test_number_of_classes(value: object) -> None:
    with pytest.raises(ValueError, match=r'model.num_classes must be a positive integer, got'):
        tiny.build('detr_r50', num_classes=value)


@pytest.mark.parametrize(
    ('slot', 'part'),
    [
        ('losses.loss_cls', {'type': 'FocalLoss', 'use_sigmoid': True}),
        ('losses.loss_bbox', {'type': 'L1Loss'}),
        ('assigner', {'type': 'mmdet.HungarianAssigner', 'match_costs': [{'type': 'BBoxL1Cost'}]}),
    ],
)
def test_parts_of_mmdet_in_the_criterion(slot: str, part: dict) -> None:
    cfg = tiny.shrink(tiny.load('conditional_detr_r50').model)
    cfg.criterion[slot.removeprefix('losses.')] = part
    text = rf"slot 'model.criterion.{slot}' needs a subclass of mmdetr_plugin\..* got mmdet\..*; choose"
    with pytest.raises(ValueError, match=text):
        MODELS.build(cfg)


def test_sampling_without_references() -> None:
    cfg = tiny.shrink(tiny.load('detr_r50').model)
    cfg.decoder.layer.cross_attn = {'type': 'DeformableAttention', 'num_levels': 1}
    with pytest.raises(ValueError, match=r'needs references .*LinearReference'):
        MODELS.build(cfg)(*tiny.batch(), mode='tensor')
