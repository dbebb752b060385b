"""Sphinx: the pages of this folder, the README as the front page, and a reference from the docstrings.

`make docs` builds it into build/site. A warning is an error.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

from mmdetr_plugin.version import __version__

ROOT = Path(__file__).resolve().parents[1]

project = 'mmdetr_plugin'
author = copyright = 'the authors of mmdetr_plugin'  # noqa: A001 - Sphinx's name
release = version = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
]
html_theme = 'furo'
html_title = f'mmdetr_plugin {release}'
html_show_copyright = html_show_sphinx = False
exclude_patterns = ['tutorial.ipynb']
myst_heading_anchors = 4  # as on GitHub
suppress_warnings = ['ref.python']  # a type hint may name a class that another module has too

autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False
autodoc_typehints_format = 'short'
napoleon_use_ivar = True  # attributes of data classes are documented once


def write_reference(app: Sphinx) -> None:
    """A page for each room, with all its files, but not what the room imports from them."""
    package, folder = ROOT / project, Path(app.srcdir, 'api')
    rooms = sorted(file.parent for file in package.glob('[a-z]*/__init__.py'))
    pages = {'detector': sorted(package.glob('*.py'))}
    pages.update((room.name, sorted(room.rglob('*.py'))) for room in rooms)
    folder.mkdir(exist_ok=True)
    toctree = [
        'Reference',
        '=========',
        '',
        '.. toctree::',
        '',
        *(f'   {page}' for page in pages),
        '',
    ]
    write_if_new(folder / 'index.rst', toctree)
    for page, files in pages.items():
        lines = [page, '=' * len(page), '']
        for file in files:
            name = '.'.join(file.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
            if file.name != '__init__.py':
                lines += [name, '-' * len(name), '', f'.. automodule:: {name}', '   :members:']
                lines += ['   :show-inheritance:', '']
            else:
                lines += [f'.. automodule:: {name}', '']
        write_if_new(folder / f'{page}.rst', lines)


def write_if_new(file: Path, lines: list[str]) -> None:
    """So that a second build reads only what has changed."""
    text = '\n'.join(lines)
    if not file.is_file() or file.read_text(encoding='utf-8') != text:
        file.write_text(text, encoding='utf-8')


OUTSIDE = {'index': 'README.md', 'changelog': 'CHANGELOG.md'}
"""Pages whose text is a file of the checkout, in place of a comment with its name."""


def lead_within_the_site(app: Sphinx, page: str, source: list[str]) -> None:
    """Links lead to files of the checkout, as on GitHub; here to pages of the site, if any."""
    text = source[0]
    if page in OUTSIDE:
        outside = (ROOT / OUTSIDE[page]).read_text(encoding='utf-8')
        outside = re.sub(r'\]\((?!https?:|#)', '](../', outside).replace('](../docs/', '](')
        text = text.replace(f'<!-- {OUTSIDE[page]} -->', outside)
    for name, file in OUTSIDE.items():
        text = text.replace(f'](../{file}', f']({name}.md')
    source[0] = text


def setup(app: Sphinx) -> None:
    app.connect('builder-inited', write_reference)
    app.connect('source-read', lead_within_the_site)
