"""Small variants, over-fitting and the convergence benchmark: their tools and their arithmetic."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import tiny
import torch
from cli import ROOT, TOOLS, load, run_python
from mmengine.config import Config, ConfigDict

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import config_path, small, variants
from mmdetr_plugin.testing.curves import Curves
from mmdetr_plugin.testing.digits_training import resize, start_from
from mmdetr_plugin.testing.pretraining import pretrain

overfit = load(TOOLS / 'overfit.py')
convergence = load(TOOLS / 'benchmarks' / 'convergence.py')

ROWS = (
    'detr_r50',
    'deformable_detr_r50',
    'smca_detr_r50',
    'anchor_detr_dc5_r50',
    'sam_detr_ms_r50',
)
CURVES = {
    'detr_r50': [
        {'epoch': e, 'ap': ap, 'ap50': 2 * ap} for e, ap in ((4, 0.1), (8, 0.2), (12, 0.3))
    ],
    'quick': [{'epoch': e, 'ap': ap, 'ap50': ap} for e, ap in ((4, 0.3), (8, 0.29), (12, 0.5))],
    'slow': [{'epoch': 4, 'ap': 0.0, 'ap50': 0.1}],
    'new': [],
}


@pytest.fixture(scope='module')
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('digits') / 'digits'
    make_digits(root, num_train=8, num_val=4)
    return root


def data_options(root: Path) -> list[object]:
    return ['--data', root, '--num-train', 8, '--num-val', 4]


# --- small ----------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ROWS)
def test_small_variants_share_all_but_the_variant(name: str) -> None:
    demo, cfg = Config.fromfile(config_path(variants.DEMO)), small(tiny.load(name))
    for key in ('train_dataloader', 'val_dataloader', 'param_scheduler', 'train_cfg'):
        assert cfg[key] == demo[key]
    assert cfg.optim_wrapper.optimizer == demo.optim_wrapper.optimizer
    for key in ('depth', 'base_channels', 'norm_cfg', 'norm_eval', 'frozen_stages', 'init_cfg'):
        assert cfg.model.backbone[key] == demo.model.backbone[key]
    assert cfg.model.num_classes == 10 and cfg.model.dropout == 0 and cfg.model.embed_dims == 128
    assert cfg.model.encoder.num_layers == 2 and cfg.model.decoder.num_layers == 3
    assert cfg.model.queries.num_queries == variants.NUM_QUERIES
    assert cfg.model.decoder.layer.cross_attn.type == (
        tiny.load(name).model.decoder.layer.cross_attn.type
    )


@pytest.mark.parametrize('name', ROWS)
def test_single_maps_have_stride_16_and_several_their_own(name: str) -> None:
    model = MODELS.build(small(tiny.load(name)).model).eval()
    with torch.no_grad():
        sizes = [m.shape[-1] for m in model.extract_feat(torch.zeros(1, 3, 160, 160))]
    assert sizes == [10] if len(sizes) == 1 else sizes == [20, 10, 5, 3][: len(sizes)]


def test_published_rates_stay_but_for_the_backbone() -> None:
    rates = small(tiny.load('deformable_detr_r50')).optim_wrapper.paramwise_cfg.custom_keys
    assert rates['backbone'].lr_mult == 1.0 and rates['sampling_offsets'].lr_mult == 0.1


def test_gaussian_priors_know_the_stride_of_the_small_map() -> None:
    layer = small(tiny.load('smca_detr_r50')).model.decoder.layer
    assert layer.cross_attn.prior.type == 'GaussianPrior'
    prior = MODELS.build(small(tiny.load('smca_detr_r50')).model).decoder.layers[0].cross_attn.prior
    assert prior.strides == (variants.SINGLE_STRIDE,)
    several = small(tiny.load('smca_detr_ms_r50')).model.decoder.layer.cross_attn.prior
    assert several.strides == (16, 16, 32, 64)


def test_levels_of_layers_stay_spread() -> None:
    assert small(tiny.load('sam_detr_ms_r50')).model.decoder.layer.cross_attn.levels == (
        2,
        1,
        0,
    )


def test_the_original_config_is_left_alone() -> None:
    cfg = tiny.load('detr_r50')
    before = cfg.model.to_dict()
    small(cfg)
    assert cfg.model.to_dict() == before


# --- over-fitting ---------------------------------------------------------------------------------


def test_the_fixed_pipeline_moves_boxes_with_the_image() -> None:
    pipeline = Config.fromfile(config_path(variants.DEMO)).val_dataloader.dataset.pipeline
    steps = overfit.fixed_pipeline(pipeline, masks=True)
    types = ['LoadImageFromFile', 'LoadAnnotations', 'Resize', 'PackDetInputs']
    assert [step.type for step in steps] == types and steps[1].with_mask


@pytest.mark.parametrize(
    ('dataset', 'text'),
    [
        ({'type': 'RepeatDataset'}, 'needs boxes in a COCO file, got a dataset of type RepeatDat'),
        (
            {'type': 'CocoPanopticDataset', 'ann_file': 'a.json'},
            'leave --as-is out to train on the digits',
        ),
    ],
)
def test_datasets_it_cannot_cut_are_told(dataset: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=text):
        overfit.write_subset(ConfigDict(dataset), 2, tmp_path / 'few.json')


def test_the_subset_holds_the_first_images_and_their_boxes(digits: Path, tmp_path: Path) -> None:
    dataset = Config.fromfile(config_path(variants.DEMO)).train_dataloader.dataset
    dataset.data_root = f'{digits}/'
    overfit.init_default_scope('mmdetr_plugin')
    overfit.write_subset(dataset, 3, tmp_path / 'few.json')
    few = json.loads((tmp_path / 'few.json').read_text())
    ids = [image['id'] for image in few['images']]
    assert len(ids) == 3 and {box['image_id'] for box in few['annotations']} == set(ids)
    assert len(few['categories']) == 10
    with pytest.raises(ValueError, match='must have 99 images with objects, got 8; lower --images'):
        overfit.write_subset(dataset, 99, tmp_path / 'many.json')


@pytest.mark.parametrize(
    ('ap50', 'text'), [(0.95, 'boxes are inexact'), (0.5, 'slowly'), (0.0, 'hardly learns')]
)
def test_failures_are_explained(ap50: float, text: str) -> None:
    assert text in overfit.explain({'ap50': ap50})


def test_overfit_evaluates_and_its_exit_code_tells(digits: Path, tmp_path: Path) -> None:
    results = tmp_path / 'results.json'
    command = [TOOLS / 'overfit.py', ROOT / 'configs/detr_r50.py', '--images', 2, '--steps', 2]
    command += [
        '--interval',
        1,
        '--work-dir',
        tmp_path,
        '--results',
        results,
        *data_options(digits),
    ]
    text = run_python(*command, cwd=tmp_path, code=1)
    assert 'step     2' in text and 'detr_r50: AP 0.0' in text and 'NOT reached' in text
    assert json.loads(results.read_text())['detr_r50']['steps'] == 2
    assert (tmp_path / 'detr_r50/grid.png').is_file()
    # What the results hold is not run again.
    results.write_text(results.read_text().replace('"reached": false', '"reached": true'))
    text = run_python(*command, cwd=tmp_path, code=0)
    assert 'step' not in text.split(':')[0] and 'reached' in text


def test_no_further_config_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    command = [TOOLS / 'overfit.py', '--minutes', 1e-9, '--work-dir', tmp_path]
    assert 'time is up' in run_python(*command, cwd=tmp_path, code=3)


@pytest.mark.training
@pytest.mark.parametrize('name', overfit.ROWS)
def test_every_variant_learns_16_images_by_heart(name: str) -> None:
    """What was reached is remembered in work_dirs/overfit: interrupted, it goes on at the next."""
    results = ROOT / 'work_dirs/overfit/results.json'
    command = [str(config_path(name)), '--images', '16', '--results', str(results)]
    assert overfit.main(command) == 0


# --- convergence ----------------------------------------------------------------------------------


def test_epochs_to_reach() -> None:
    assert convergence.epochs_to_reach(CURVES['detr_r50'], 0.3) == 12
    assert convergence.epochs_to_reach(CURVES['quick'], 0.3) == 4
    assert convergence.epochs_to_reach(CURVES['slow'], 0.3) is None


def test_table_compares_with_the_last_ap_of_detr() -> None:
    lines = convergence.table(CURVES, 12).splitlines()
    assert lines[2:] == [
        '| detr_r50 | 12 | 0.300 | 0.600 | 12 | 1.0 |',
        '| quick | 12 | 0.500 | 0.500 | 4 | 3.0 |',
        '| slow | 4 | 0.000 | 0.100 | not reached | - |',
    ]


def test_nothing_is_compared_before_detr_is_done_or_if_it_learnt_nothing() -> None:
    alone = {'quick': CURVES['quick']}
    failed = {'detr_r50': [{'epoch': 12, 'ap': 0.002, 'ap50': 0.01}], **alone}
    for curves, epochs in ((CURVES, 13), (alone, 12), (failed, 12)):
        assert '| quick | 12 | 0.500 | 0.500 | - | - |' in convergence.table(curves, epochs)


def test_plot(tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    convergence.plot(CURVES, tmp_path / 'curves.png')
    assert (tmp_path / 'curves.png').stat().st_size > 1000


def test_curves_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / 'curves.json'
    common = {
        'epochs': 2,
        'images': 8,
        'interval': 1,
        'seed': 0,
        'size': 96,
        'pretrain': 1,
        'lr': 0.1,
    }
    points = [{'epoch': epoch, 'ap': 0.1, 'ap50': 0.2} for epoch in (1, 2)]
    curves = Curves(file, common)
    for point in (*points, points[1]):  # an epoch that is repeated replaces itself
        curves.add('detr_r50', point)
    again = Curves(file, common)
    assert again.of('detr_r50') == points and again.of('other') == []
    assert again.reaches('detr_r50', 2) and not again.reaches('detr_r50', 3)
    with pytest.raises(ValueError, match='must share their settings'):
        Curves(file, {**common, 'epochs': 3})
    args = argparse.Namespace(**common, minutes=8)
    assert convergence.settings(args) == common


def test_pictures_and_the_smallest_boxes_shrink_together() -> None:
    pipeline = Config.fromfile(config_path(variants.DEMO)).train_dataloader.dataset.pipeline
    resize(pipeline, 80)
    steps = {step.type: step for step in pipeline}
    assert steps['Resize'].scale == (80, 80)
    assert steps['FilterAnnotations'].min_gt_bbox_wh == (3, 6)


@pytest.mark.parametrize(('name', 'strides'), [('smca_detr_r50', [8]), ('smca_detr_ms_r50', None)])
def test_variants_start_from_one_frozen_backbone(
    name: str, strides: list[int] | None, digits: Path, tmp_path: Path
) -> None:
    cfg = small(tiny.load(name))
    source = small(tiny.load('deformable_detr_r50')).model
    source.backbone.out_indices = (3,)
    file = tmp_path / 'backbone.pth'
    pretrain(source.backbone, source.data_preprocessor, digits, file, epochs=1, seed=0)
    start_from(cfg.model, file)
    model = MODELS.build(cfg.model)
    model.init_weights()
    weights = torch.load(file)['state_dict']
    ours = model.backbone.state_dict()
    assert ours and all(torch.equal(ours[key], weights[key]) for key in ours)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    with torch.no_grad():
        sizes = [m.shape[-1] for m in model.eval().extract_feat(torch.zeros(1, 3, 96, 96))]
    if strides:
        assert [96 // size for size in sizes] == strides
        assert list(model.decoder.layers[0].cross_attn.prior.strides) == strides
    else:
        assert sizes == [12, 6, 3, 2]


def test_convergence_goes_on_where_it_was_stopped(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip('matplotlib')
    command = [TOOLS / 'benchmarks/convergence.py', 'detr_r50', '--epochs', 2, '--images', 8]
    command += ['--workers', 0, '--work-dir', tmp_path, '--size', 96, '--pretrain', 1]
    command += data_options(digits)
    assert 'time is up' in run_python(*command, '--minutes', 0.01, cwd=tmp_path, code=3)
    backbone = (tmp_path / 'backbone.pth').read_bytes()
    curve = json.loads((tmp_path / 'curves.json').read_text())['curves']['detr_r50']
    assert [point['epoch'] for point in curve] == [1]
    assert '| detr_r50 | 2 |' in run_python(*command, cwd=tmp_path)
    again = json.loads((tmp_path / 'curves.json').read_text())['curves']['detr_r50']
    assert [point['epoch'] for point in again] == [1, 2] and again[0] == curve[0]
    assert (tmp_path / 'backbone.pth').read_bytes() == backbone
    assert (tmp_path / 'curves.png').is_file()
