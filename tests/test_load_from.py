"""Starting from a checkpoint needs no other weights of the backbone."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import tiny_run
import torch

from mmdetr_plugin.engine.command_line import build_runner
from mmdetr_plugin.registry import MODELS


def test_weights_that_would_be_overwritten_are_not_read(tmp_path: Path) -> None:
    cfg = tiny_run.config(tiny_run.make_data(tmp_path / 'data'), tmp_path / 'work')
    torch.manual_seed(3)
    weights = MODELS.build(cfg.model).state_dict()
    torch.save(weights, tmp_path / 'weights.pth')
    cfg.custom_hooks.pop()  # EMA, which only a training sets up
    cfg.update(experiment_name='load_from', launcher='none')
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint='absent.pth')
    parser = argparse.ArgumentParser()
    alone = build_runner(parser, cfg.copy(), 'train')
    with pytest.raises(RuntimeError, match=r'needs its ImageNet weights, but absent.pth'):
        alone.model.init_weights()
    cfg.load_from = str(tmp_path / 'weights.pth')
    cfg.experiment_name = 'load_from_2'
    runner = build_runner(parser, cfg, 'train')
    runner.model.init_weights()
    runner.load_or_resume()
    state = runner.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in weights.items())
