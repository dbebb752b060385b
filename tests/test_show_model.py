"""`tools/show_model.py`: the table agrees with the config and with the model that is built of it."""

from __future__ import annotations

import re
import sys

import pytest
import tiny
import torch
from cli import ROOT, TOOLS, run

from mmdetr_plugin.registry import MODELS

ROW = re.compile(r'(\S+) +([A-Z]\w+)((?: +[\d,]+){2})?(?:  +(.*))?')


def show(name: str, *options: str, code: int = 0) -> str:
    words = ('--cfg-options', *options) if options else ()
    command = (sys.executable, TOOLS / 'show_model.py', ROOT / f'configs/{name}.py', *words)
    return run(command, ROOT, code, COLUMNS=140)  # the width of the table, whoever runs the tests


def rows(printed: str) -> dict[str, tuple[str, list[int], str]]:
    """(class, [trainable, all], settings in one line) of each slot."""
    table = re.sub(r'\n {20,}(?=\S)', ' ', printed.split('\n\n')[0])
    found = [ROW.fullmatch(line) for line in table.splitlines()[1:]]
    return {
        m[1]: (m[2], [int(n.replace(',', '')) for n in (m[3] or '').split()], m[4] or '')
        for m in found
    }


@pytest.fixture(scope='module')
def two_stage() -> str:
    return show('deformable_detr_two_stage_r50')


def test_every_slot_has_its_class_and_settings(two_stage: str) -> None:
    slots = rows(two_stage)
    names = ['backbone', 'neck', 'position', 'encoder', 'queries', 'decoder', 'head', 'criterion']
    assert [name for name in slots if name in names] == names
    kind, _, settings = slots['queries']
    assert (kind, settings) == ('EncoderProposals', 'num_queries=300')
    assert slots['encoder.layer.self_attn'][0] == 'DeformableAttention'
    assert slots['encoder.layer.ffn'][::2] == ('FeedForward', 'hidden_dims=1024')
    assert slots['decoder.layer.self_attn'][::2] == ('SelfAttention', ''), 'its class fills it'
    assert 'norm_cfg=GN(num_groups=32)' in slots['neck'][2]
    assert 'match_costs=[FocalLossCost(weight=2.0, eps=1e-08)' in slots['criterion.assigner'][2]
    assert slots['criterion.losses.loss_iou'][::2] == ('BoxGIoULoss', 'loss_weight=2.0')


def test_parameters_are_those_of_the_model(two_stage: str) -> None:
    cfg = tiny.load('deformable_detr_two_stage_r50')
    cfg.model.backbone.init_cfg = None
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    slots = rows(two_stage)
    for name, part in [*model.named_children(), ('total', model)]:
        trainable = sum(p.numel() for p in part.parameters() if p.requires_grad)
        every = sum(p.numel() for p in part.parameters())
        assert slots[name][1] == ([trainable, every] if every else [])
    attention = [layer.self_attn for layer in model.encoder.layers]
    number = sum(p.numel() for op in attention for p in op.parameters())
    assert slots['encoder.layer.self_attn'][1] == [number, number]


def test_levels_layout_and_schedule_follow(two_stage: str) -> None:
    facts = [line.split(maxsplit=1) for line in two_stage.split('\n\n')[1].splitlines()]
    assert {
        ('num_levels', '4'),
        ('layout', 'deformable'),
        ('optimizer', 'AdamW(lr=0.0002, weight_decay=0.0001)'),
        ('backbone', 'lr_mult=0.1'),
        ('length', 'max_epochs=50'),
    } <= {tuple(fact) for fact in facts}
    assert 'MultiStepLR(milestones=[40], gamma=0.1' in two_stage
    text = ' '.join(two_stage.split())
    assert '2 per GPU x 1 GPUs x 1 accumulated = 2, the config was tuned for 32; set' in text


def test_options_and_frozen_parts_are_seen() -> None:
    slots = rows(show('detr_panoptic_masks_r50', 'model.queries.num_queries=7'))
    assert slots['queries'] == ('LearnedQueries', [0, 7 * 256], 'num_queries=7')
    assert slots['total'][1][0] == slots['mask_head'][1][0] > 0


def test_a_config_that_cannot_be_built_is_an_error() -> None:
    text = show('finetune/detr_r50_12e', code=2)
    assert 'model.num_classes must be a number, got None' in text
    assert 'add --cfg-options model.num_classes=N' in text
    text = show('detr_r50', 'model.head.type=SetHed', code=2)
    assert "slot 'model.head' must name a registered type, got 'SetHed'; did you mean" in text
    assert 'Traceback' not in text
