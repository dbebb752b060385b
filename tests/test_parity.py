"""Every parity case, every array of it: we compute what the official implementations compute."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmdetr_plugin.checkpoints import from_official, to_official
from mmdetr_plugin.checkpoints.layouts import get_layout
from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import Case, check, project_root

CASES = sorted((Path(__file__).parent / 'parity' / 'cases').iterdir())
ONLY_LOGGED = re.compile(
    r'loss/(cardinality_error|loss_xy|loss_hw)(_\d|_enc|_interm|_dn|_one2many)*'
    r'|loss/class_error(_\d)?_(dn|one2many)(_\d)?'
)
"""Arrays that the authors log and never train: ours logs cardinality and class error of the detecting
queries' last layer alone, and does not split the L1 loss."""


@pytest.mark.parametrize('folder', CASES, ids=lambda folder: folder.name)
def test_case(folder: Path) -> None:
    case = Case.load(folder)
    rows, absent = check(case)
    assert [str(row) for row in rows if not row.ok] == []
    assert [name for name in absent if not ONLY_LOGGED.fullmatch(name)] == []
    assert len(rows) > 8


@pytest.mark.parametrize('folder', CASES, ids=lambda folder: folder.name)
def test_every_published_name_comes_back(folder: Path) -> None:
    """Official layout to ours and back is a renaming: the same tensors under all of their names."""
    spec = Case.load(folder).spec
    model = Config.fromfile(project_root() / spec['config']).model
    model.num_classes = spec['num_classes']
    with torch.device('meta'):
        model = MODELS.build(model)
        state = {name: torch.empty(shape) for name, shape in spec['parameters']}
    state |= {name: state[same] for name, same in spec['aliases'].items()}
    back = to_official(from_official(state, model), model)
    assert set(back) == set(state)
    constants = get_layout(model.layout).constants_of(model)  # follow from the config
    passed_on = [name for name in back if name not in constants]
    assert [name for name in passed_on if back[name] is not state[name]] == []
    for name, value in constants.items():
        assert value.tolist() == spec['values'][name]
