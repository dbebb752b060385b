"""What the pages in docs/ show is run: their python, their configs, their options."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import tiny
from cli import ROOT, run
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope
from torch import nn

import mmdetr_plugin.components  # noqa: F401 - registers every class
from mmdetr_plugin.registry import MODELS

PAGES = (
    'compose',
    'export',
    'figures',
    'generalisation',
    'inference',
    'migrate',
    'panoptic',
    'resume',
    'reuse',
    'training',
)


def page(name: str) -> str:
    return (ROOT / 'docs' / f'{name}.md').read_text(encoding='utf-8')


def blocks(name: str) -> list[str]:
    """The python blocks of a page."""
    return re.findall(r'^```python\n(.*?)^```$', page(name), re.DOTALL | re.MULTILINE)


def code(name: str) -> list[str]:
    """The blocks of a page that are no config files."""
    return [block for block in blocks(name) if '_base_ =' not in block]


def configs() -> list[object]:
    """The blocks that are config files."""
    found = [(name, block) for name in PAGES for block in blocks(name) if '_base_ =' in block]
    return [pytest.param(block, id=re.search("'(.*)'", block)[1]) for _, block in found]


def options() -> list[tuple[str, str]]:
    """(config, options) of the table of ablations."""
    return re.findall(r'^\|.*\| `(\w+)` \| `([\w.]+=.*)` \|$', page('compose'), re.MULTILINE)


@pytest.mark.parametrize('name', [name for name in PAGES if code(name)])
def test_python_runs(name: str, tmp_path: Path) -> None:
    script = tmp_path / 'blocks.py'
    script.write_text('\n'.join([*code(name), "print('all ran')"]), encoding='utf-8')
    for folder in (
        'configs',
        'docs',
        'tests',
        'tools',
    ):  # what blocks write stays out of the project
        (tmp_path / folder).symlink_to(ROOT / folder)
    assert run([sys.executable, '-W', 'ignore', script], tmp_path).endswith('all ran\n')


@pytest.mark.parametrize('block', configs())
def test_configs_can_be_built(block: str, tmp_path: Path) -> None:
    file = tmp_path / 'config.py'
    file.write_text(block.replace("'./", f"'{ROOT / 'configs'}/"), encoding='utf-8')
    cfg = Config.fromfile(file)
    if cfg.default_scope == 'mmdetr_plugin':
        if 'teacher' in cfg.model:
            teacher = Config.fromfile(cfg.model.teacher.config)
            teacher.model = tiny.shrink(teacher.model)
            teacher.dump(tmp_path / 'teacher.py')
            cfg.model.teacher.config = str(tmp_path / 'teacher.py')
        assert_trains(MODELS.build(tiny.shrink(cfg.model)))
        return
    register_all_modules(init_default_scope=False)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MMDET_MODELS.build(cfg.model)
    assert 'mmdetr_plugin' in str({type(part) for part in parts(detector)})


def parts(detector: nn.Module) -> list[object]:
    """Modules, and the assigner, which is none."""
    heads = [getattr(detector, 'bbox_head', None)]
    return [*detector.modules(), *(getattr(head, 'assigner', None) for head in heads)]


def assert_trains(model: nn.Module) -> None:
    """Every term that is a loss is finite, and a gradient reaches the decoder."""
    losses = model.loss(*tiny.batch())
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None for p in model.decoder.layers.parameters())


@pytest.mark.parametrize(('name', 'line'), options())
def test_options_do_something(name: str, line: str) -> None:
    """They change the config, and the model that they give trains."""
    values = dict(option.split('=', 1) for option in line.split())
    values = {key: DictAction._parse_iterable(value) for key, value in values.items()}
    cfg = tiny.load(name)
    before = cfg.to_dict()
    cfg.merge_from_dict(values)
    assert cfg.to_dict() != before
    if line.startswith('model.'):
        model = tiny.shrink(cfg.model)
        if model.queries.get('anchors') == 'grid':
            model.queries.num_queries = 9  # a square number too
        assert_trains(MODELS.build(model))


def test_every_model_type_is_listed() -> None:
    text = page('compose') + page('reuse')
    own = {n for n, cls in MODELS.module_dict.items() if cls.__module__.startswith('mmdetr_plugin')}
    assert {name for name in own if not re.search(rf'\b{name}\b', text)} == set()


MARKDOWN = [*sorted((ROOT / 'docs').glob('*.md')), ROOT / 'README.md', ROOT / 'CHANGELOG.md']


@pytest.mark.parametrize('file', MARKDOWN, ids=lambda file: file.stem)
def test_links_lead_somewhere(file: Path) -> None:
    """To a file, and in a page to a heading."""
    text = file.read_text(encoding='utf-8')
    for path, anchor in re.findall(r'\]\((?!http)([^)#]*)(#[^)]+)?\)', text):
        target = file.parent / path if path else file
        assert target.exists(), path
        assert not anchor or anchor[1:] in anchors(target), path + anchor


def anchors(file: Path) -> set[str]:
    """Of the headings of a page, as GitHub and Sphinx make them."""
    headings = re.findall(r'^#+ (.*)$', file.read_text(encoding='utf-8'), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.slow
def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    """By the command of `make docs`: each page, and each class of the package in the reference."""
    printed = run(['make', '-n', 'docs', 'PY=python'], ROOT)
    (command,) = re.findall(r'^python (-m sphinx .*) build/site$', printed, re.MULTILINE)
    words = [sys.executable, '-W', 'ignore', *command.split(), tmp_path]
    run(words, ROOT, timeout=1800)
    for file in (ROOT / 'docs').glob('*.md'):
        assert (tmp_path / f'{file.stem}.html').stat().st_size > 5000
    assert 'deformable_detr_two_stage_r50' in (tmp_path / 'index.html').read_text()
    reference = ''.join(path.read_text() for path in (tmp_path / 'api').glob('*.html'))
    own = {n: cls.__module__ for n, cls in MODELS.module_dict.items()}
    for name, module in own.items():
        if module.startswith('mmdetr_plugin.'):
            assert f'id="{module}.{name}"' in reference, name


def test_every_promise_has_its_test() -> None:
    """`docs/reliability.md` names a test for each; `::name` alone is in the file named before it."""
    file, absent = '', []
    for found, name in re.findall(r'`(test_\w+\.py)?::(test_\w+)`', page('reliability')):
        file = found or file
        if f'def {name}(' not in (ROOT / 'tests' / file).read_text(encoding='utf-8'):
            absent.append(f'{file}::{name}')
    assert absent == []
