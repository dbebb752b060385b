"""Every parity case, every array of it: we compute what the official implementations compute."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from check_parity import check
from parity import ROOT, Case

CASES = sorted((ROOT / 'tests' / 'parity' / 'cases').iterdir())
ONLY_LOGGED = re.compile(r'loss/(cardinality_error|loss_xy|loss_hw)(_\d|_enc)?')
"""Arrays that the authors log and never train: ours logs the cardinality of the last layer alone,
and does not split the L1 loss."""


@pytest.mark.parametrize('folder', CASES, ids=lambda folder: folder.name)
def test_case(folder: Path) -> None:
    case = Case.load(folder)
    rows, absent = check(case)
    assert [str(row) for row in rows if not row.ok] == []
    assert [name for name in absent if not ONLY_LOGGED.fullmatch(name)] == []
    assert len(rows) > 8
