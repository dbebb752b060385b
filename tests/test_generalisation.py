"""Pictures with a given number of digits, and the benchmark that counts which are found in them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cli import TOOLS, load
from test_figures import assert_legible

from mmdetr_plugin.datasets import make_digits
from mmdetr_plugin.datasets.digits.material import Material, load_material
from mmdetr_plugin.datasets.digits.scene import box_of, draw_scene

generalisation = load(TOOLS / 'benchmarks' / 'generalisation.py')


@pytest.fixture(scope='module')
def material() -> Material:
    return load_material()


@pytest.mark.parametrize('number', [1, 24])
def test_a_scene_has_the_number_of_digits_that_was_asked_for(
    material: Material, number: int
) -> None:
    scene = draw_scene(np.random.RandomState(0), material, range(99), 160, number, (0.125, 0.15))
    assert len(scene.inks) == number
    boxes = [box_of(ink.mask) for ink in scene.inks]
    heights = np.array([bottom - top for _, top, _, bottom in boxes])
    assert heights.max() <= 160 * 0.15 * 1.3 and heights.min() >= 10  # turned by up to 12 degrees
    assert not np.any(np.sum([ink.mask for ink in scene.inks], axis=0) > 1)


def test_test_pictures_show_one_digit_in_new_handwritings(material: Material) -> None:
    made = [*generalisation.scenes(material, 'one digit', 8, 12, seed=0)]
    digits = [{ink.digit for ink in scene.inks} for scene in made]
    assert digits == [{i % 10} for i in range(12)]
    assert all(ink.glyph >= 1400 for scene in made for ink in scene.inks)
    mixed = next(generalisation.scenes(material, 'all digits', 8, 1, seed=0))
    assert len({ink.digit for ink in mixed.inks}) > 1
    again = next(generalisation.scenes(material, 'all digits', 8, 1, seed=0))
    assert np.array_equal(mixed.image, again.image)


def test_the_whole_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generalisation, 'make_digits', partial(make_digits, num_val=2))
    words = ['--num-train', '8', '--epochs', '1', '--pictures', '2', '--counts', '1', '6']
    words += ['--work-dir', str(tmp_path / 'work'), '--data', str(tmp_path / 'digits')]
    assert generalisation.main(words) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / 'work' / 'table.md').read_text()
    lines = printed.splitlines()
    assert lines[0].split('|')[2].strip() == 'one digit: found'
    assert [line.split('|')[1].strip() for line in lines[2:]] == ['1', '6']
    for file in ('curve.png', 'pictures.jpg', 'training/epoch_1.pth'):
        assert (tmp_path / 'work' / file).stat().st_size > 1000


def test_the_curve_is_legible() -> None:
    rows = [
        generalisation.Row(number, kind, 0.9, 0.1, 0.9)
        for number in generalisation.COUNTS
        for kind in generalisation.KINDS
    ]
    assert_legible(generalisation.curve(rows))
