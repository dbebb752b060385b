"""The notebook docs/tutorial.ipynb: it is committed without results, and runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
import pytest
from cli import ROOT
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_results_are_not_committed(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert len(cells) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)


def test_links_lead_somewhere(notebook: nbformat.NotebookNode) -> None:
    text = '\n'.join(cell.source for cell in notebook.cells if cell.cell_type == 'markdown')
    links = re.findall(r'\]\((?!http)([^)#]+)', text)
    assert links and all((NOTEBOOK.parent / link).exists() for link in links)


@pytest.mark.slow
def test_it_runs(notebook: nbformat.NotebookNode, tmp_path: Path) -> None:
    """In a kernel of this Python. It learns its pictures, finds a digit and draws four pictures."""
    kernels = KernelSpecManager()
    assert kernels.get_kernel_spec('python3').argv[0] in ('python', sys.executable)
    client = NotebookClient(notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}})
    client.execute()
    outputs = [out for cell in notebook.cells for out in cell.get('outputs', ())]
    pictures = [out for out in outputs if 'image/png' in out.get('data', {})]
    assert len(pictures) == 4
    printed = ''.join(out.get('text', '') for out in outputs if out.get('name') == 'stdout')
    assert float(re.search(r'AP (\d\.\d+)', printed)[1]) > 0.5
    assert re.search(r"\['\d'.*\] \[[01]\.", printed), printed
    assert 'decoder.layers.2.cross_attn' in printed
