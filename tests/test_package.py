"""The package as it is built and installed, and what it says when a dependency does not fit."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import sys
import zipfile
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from cli import ROOT, build_wheel, load, run
from packaging.requirements import Requirement as Specified

from mmdetr_plugin.compat import REQUIREMENTS, Requirement, check_dependencies
from mmdetr_plugin.version import __version__

CONFIGS = sorted((ROOT / 'configs').glob('*.py'))


def requirements() -> list[Specified]:
    return [Specified(text) for text in importlib.metadata.requires('mmdetr_plugin')]


# ---- metadata -----------------------------------------------------------------------------------


def test_version_is_the_installed_one() -> None:
    assert re.fullmatch(r'\d+\.\d+\.\d+', __version__)
    assert importlib.metadata.version('mmdetr_plugin') == __version__


def test_setup_requires_what_the_import_checks() -> None:
    stated = {r.name: set(str(r.specifier).split(',')) for r in requirements() if not r.marker}
    checked = {r.module: set(r.specifier().split(',')) for r in REQUIREMENTS}
    assert stated == checked


def test_every_config_is_indexed() -> None:
    model_index = load(ROOT / 'scripts' / 'model_index.py')
    text = (ROOT / 'model-index.yml').read_text(encoding='utf-8')
    assert text == model_index.render(), 'run: python scripts/model_index.py'
    index = yaml.safe_load(text)
    assert [model['Name'] for model in index['Models']] == [config.stem for config in CONFIGS]
    collections = {collection['Name'] for collection in index['Collections']}
    assert {model['In Collection'] for model in index['Models']} == collections


def test_every_config_has_a_name_of_its_own() -> None:
    # mim finds a config by its name among all files of the package.
    files = [f for top in ('configs', 'tools', 'mmdetr_plugin') for f in (ROOT / top).rglob('*.py')]
    names = Counter(file.name for file in files if '.mim' not in file.parts)
    assert [config.name for config in CONFIGS if names[config.name] > 1] == []


def test_published_figures_are_stated_once() -> None:
    """The README, the index and the heads of the configs agree with scripts/model_table.py."""
    table = load(ROOT / 'scripts' / 'model_table.py')
    counts = json.loads((ROOT / 'docs' / 'counts.json').read_text())
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert table.table(counts) in readme, 'run: python scripts/model_table.py'
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text(encoding='utf-8'))
    indexed = {
        model['Name']: next(iter(model['Results'][0]['Metrics'].items()))
        for model in index['Models']
        if 'Results' in model
    }
    assert all(name.endswith(' of the authors') for name, _ in indexed.values())
    published = {name: figure for name, (_, _, figure) in table.PAPER.items() if figure}
    assert {name: str(value) for name, (_, value) in indexed.items()} == {
        name: figure.removeprefix('PQ ') for name, figure in published.items()
    }
    for name, figure in published.items():
        stated = re.search(r'(\d+\.\d) (AP|PQ)\b', head_of(ROOT / 'configs' / f'{name}.py'))
        assert stated is None or stated[1] == figure.removeprefix('PQ '), name


def head_of(config: Path) -> str:
    lines = config.read_text(encoding='utf-8').splitlines()
    return ' '.join(line.lstrip('# ') for line in takewhile(lambda x: x.startswith('#'), lines))


def test_extras_are_listed_and_named_as_they_can_be_installed() -> None:
    """There is no release yet: `pip install 'mmdetr_plugin[cpu]'` would find none."""
    tree = ast.parse((ROOT / 'setup.py').read_text(encoding='utf-8'))
    (extras,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == 'EXTRAS_REQUIRE'
    ]
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = readme.split('| extra | brings |')[1].split('\n\n')[0]
    assert re.findall(r'^\| `([\w-]+)` \|', rows, re.MULTILINE) == list(extras)
    texts = [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]
    texts += [
        f for top in ('mmdetr_plugin', 'tools', 'configs') for f in (ROOT / top).rglob('*.py')
    ]
    assert [file.name for file in texts if 'mmdetr_plugin[' in file.read_text('utf-8')] == []


# ---- wheel and editable install -----------------------------------------------------------------


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp('build'))


def tree(folder: Path) -> set[str]:
    """The files of a folder that belong into a package."""
    return {
        file.relative_to(folder).as_posix()
        for file in folder.rglob('*')
        if file.is_file()
        and file.suffix not in ('.pyc', '.pth')
        and not {'__pycache__', '.mim'} & set(file.parts)
    }


def test_wheel_holds_the_package_and_what_mim_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    held = {n.removeprefix('mmdetr_plugin/') for n in names if n.startswith('mmdetr_plugin/')}
    expected = tree(ROOT / 'mmdetr_plugin') | {'.mim/model-index.yml'}
    for name in ('configs', 'tools'):
        expected |= {f'.mim/{name}/{file}' for file in tree(ROOT / name)}
    assert held == expected
    outside = {n.split('/')[0] for n in names} - {'mmdetr_plugin'}
    assert outside == {f'mmdetr_plugin-{__version__}.dist-info'}


def test_wheel_works_alone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / 'site'
    run([*(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps'), '-t', site, wheel], tmp_path)
    script = """
import pathlib, mmdetr_plugin
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmdet.registry import MODELS
from mmdetr_plugin.testing import config_path, project_root

package = pathlib.Path(mmdetr_plugin.__file__).parent
assert package.parent.name == 'site', package
assert project_root() == package / '.mim'
cfg = Config.fromfile(config_path('detr_r101'))
assert cfg.default_hooks.timer.type == 'IterTimerHook', 'comes from mmdet::_base_'
init_default_scope('mmdetr_plugin')
MODELS.build(cfg.model)
print('works', mmdetr_plugin.__version__)
"""
    text = run([sys.executable, '-c', script], tmp_path, PYTHONPATH=site)
    assert f'works {__version__}' in text
    tools = site / 'mmdetr_plugin' / '.mim' / 'tools'
    help_text = run([sys.executable, tools / 'train.py', '--help'], tmp_path, PYTHONPATH=site)
    assert '--work-dir' in help_text
    shutil.copytree(ROOT / 'tests/parity/cases/detr_r50', tmp_path / 'cases/detr_r50')
    parity = [sys.executable, tools / 'check_parity.py', '--quiet', 'cases/detr_r50']
    text = run(parity, tmp_path, code=2, PYTHONPATH=site)
    assert 'reference_tensors.py must be two folders above the case' in text
    shutil.copy2(ROOT / 'tests/parity/reference_tensors.py', tmp_path)
    assert run(parity, tmp_path, PYTHONPATH=site).endswith('parity holds\n')


def test_editable_install_links_and_leaves_the_checkout_clean() -> None:
    links = ROOT / 'mmdetr_plugin' / '.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (links / name).resolve() == ROOT / name
    run(['git', 'check-ignore', '-q', links / 'configs'], ROOT)


# ---- the check of dependencies at import --------------------------------------------------------


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes an installed package: a module with a version, and metadata if asked for."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(module: str, version: str = '', fork: str = '', compiled: bool = False) -> None:
        # An imported module is found before any file.
        monkeypatch.delitem(sys.modules, module, raising=False)
        package = tmp_path / module
        package.mkdir()
        (package / '__init__.py').write_text('raise RuntimeError("must not be imported")')
        text = f"__version__ = version('{fork}')" if fork else f"__version__ = '{version}'"
        (package / 'version.py').write_text(f'{text}\nshort = __version__\n')
        if compiled:
            (package / '_ext.cpython-311-x86_64-linux-gnu.so').touch()
        if fork:
            info = tmp_path / f'{fork.replace("-", "_")}-{version}.dist-info'
            info.mkdir()
            (info / 'METADATA').write_text(
                f'Metadata-Version: 2.1\nName: {fork}\nVersion: {version}\n'
            )

    return make


def complaint(*checked: Requirement) -> str:
    """What the check says; nothing if all is well."""
    try:
        check_dependencies(checked)
    except ImportError as error:
        return str(error)
    return ''


def named(module: str) -> Requirement:
    return next(r for r in REQUIREMENTS if r.module == module)


def test_this_environment_passes() -> None:
    assert complaint(*REQUIREMENTS) == ''


def test_all_problems_are_told_at_once(fake) -> None:
    fake('old_one', '1.9.5')
    fake('new_one', '3.0.0+cu130')
    text = complaint(
        Requirement('old_one', '1.10', '2.0'),
        Requirement('new_one', '2.0', '3.0'),
        Requirement('absent_one', '1.0'),
    )
    assert text.splitlines()[:5] == [
        'mmdetr_plugin cannot work with what is installed:',
        '  old_one: needs >=1.10,<2.0, found 1.9.5',
        '  new_one: needs >=2.0,<3.0, found 3.0.0+cu130',
        '  absent_one: needs >=1.0, but is not installed',
        'To fix it: pip install --no-build-isolation "old_one>=1.10,<2.0" "new_one>=2.0,<3.0" '
        '"absent_one>=1.0"',
    ]
    assert 'make setup' in text


def test_mmcv_needs_its_operators(fake) -> None:
    fake('mmcv', '2.1.0')
    assert 'mmcv: needs its compiled operators, found 2.1.0 without them' in complaint(
        named('mmcv')
    )


def test_mmcv_that_mmdet_refuses_is_refused(fake) -> None:
    fake('mmcv', '2.2.0', compiled=True)
    assert 'mmcv: needs >=2.1.0,<2.2, found 2.2.0' in complaint(named('mmcv'))


@pytest.mark.parametrize(
    ('module', 'fork', 'version'),
    [
        ('mmengine', 'onedl-mmengine', '0.10.12'),
        ('mmcv', 'onedl-mmcv', '2.3.6'),
        ('mmdet', 'onedl-mmdetection', '3.5.1'),
    ],
)
def test_forks_of_the_same_module_are_accepted(fake, module: str, fork: str, version: str) -> None:
    fake(module, version, fork, compiled=True)
    assert complaint(named(module)) == ''


def test_a_fork_has_bounds_too(fake) -> None:
    fake('mmcv', '3.0.0', 'onedl-mmcv', compiled=True)
    assert 'mmcv: needs >=2.1.0,<3.0, found 3.0.0' in complaint(named('mmcv'))


def test_leftover_folder_is_no_installation(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / 'leftover' / 'ops').mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert 'leftover: needs >=1.0, but is not installed' in complaint(
        Requirement('leftover', '1.0')
    )


def test_importing_the_package_tells_it(fake, tmp_path: Path) -> None:
    fake('mmdet', '2.28.2')
    text = run(
        [sys.executable, '-c', 'import mmdetr_plugin'], tmp_path, code=1, PYTHONPATH=tmp_path
    )
    assert 'ImportError: mmdetr_plugin cannot work with what is installed:' in text
    assert 'mmdet: needs >=3.3.0,<4.0, found 2.28.2' in text
