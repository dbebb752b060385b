"""Checkpoints saved before the contracts of the slots were made load as they are.

Such files cannot be made again by the present code, and whole ones are too large for a repository. So
``old_state_dicts.json`` keeps what decides whether they load: the names and shapes of the weights of
every X
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
import tiny
import torch

from mmdetr_plugin.registry import MODELS
from mmdetr_plugin.testing import shrink

OLD = json.loads((tiny.ROOT / 'tests/old_state_dicts.json').read_text())
SEEN: dict[str, list[str]] = {}
"""Lines by the text of the config."""


def names_and_shapes(name: str) -> list[str]:
    """Lines such as ``decoder.norm.weight 32``, sorted."""
    model = shrink(tiny.load(name).model)
    text = str(model)
    if (
        text not in SEEN
    ):  # many configs differ in nothing but their schedule or the backbone's depth
        with torch.device('meta'):  # no weights, only their shapes
            state = MODELS.build(model).state_dict()
        SEEN[text] = sorted(' '.join(map(str, (key, *v.shape))) for key, v in state.items())
    return SEEN[text]


def configs() -> Iterator[str]:
    for names in OLD['hashes'].values():
        yield from names


@pytest.mark.parametrize('name', configs())
def test_names_and_shapes_are_the_old_ones(name: str) -> None:
    lines = names_and_shapes(name)
    digest = hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:16]
    assert name in OLD['hashes'].get(digest, ()), lines


def test_the_written_ones_are_the_old_ones() -> None:
    """Compared line by line: the difference is seen at once."""
    for name, lines in OLD['written out'].items():
        assert names_and_shapes(name) == lines


def test_no_config_is_left_out() -> None:
    assert len(set(configs())) == len(list(configs())) == 57
    assert set(configs()) <= {*tiny.CONFIGS, *tiny.FINETUNE}
