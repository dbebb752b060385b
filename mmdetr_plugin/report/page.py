"""A self-contained HTML page: text, tables and pictures, for a desktop and for a phone."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np
from matplotlib.figure import Figure

STYLE = """
:root { color-scheme: light; --line: #d9dde3; --soft: #f5f6f8; --dim: #5c6670; --mark: #1f5fbf; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: #1c2126; background: #fff;
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0.3rem 0 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; border-bottom: 1px solid var(--line); }
p { max-width: 46rem; margin: 0.4rem 0 0.8rem; overflow-wrap: anywhere; }
.dim { color: var(--dim); }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; margin: 0.8rem 0; }
a { color: var(--mark); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 0.6rem; }
.card { background: var(--soft); border-radius: 6px; padding: 0.6rem 0.8rem; }
.card b { display: block; font-size: 1.35rem; overflow-wrap: anywhere; }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.photos { grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.tables { display: flex; flex-wrap: wrap; gap: 0 3rem; }
figure { margin: 0; }
figure img { width: 100%; height: auto; display: block; border-radius: 4px; }
figcaption { color: var(--dim); font-size: 0.9rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 0.6rem 0; max-width: 100%; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.8rem 0.25rem 0; text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.wide { min-width: 20rem; }
pre { background: var(--soft); border-radius: 6px; padding: 0.8rem; overflow-x: auto;
  font-size: 0.85rem; line-height: 1.35; }
summary { cursor: pointer; color: var(--mark); }
"""
DPI = 110
QUALITY = 85


class Page:
    """Collects the parts of a page.

    Args:
        title: of the page.
        subtitle: a sentence below it.
    """

    def __init__(self, title: str, subtitle: str) -> None:
        self.title, self.subtitle = title, subtitle
        self.sections: list[tuple[str, list[str]]] = []

    def section(self, title: str, text: str = '') -> None:
        """Begin a section; what is added next stands in it."""
        self.sections.append((title, []))
        if text:
            self.text(text)

    def add(self, markup: str) -> None:
        self.sections[-1][1].append(markup)

    def text(self, text: str) -> None:
        self.add(f'<p>{escape(text)}</p>')

    def cards(self, values: Sequence[tuple[str, str]]) -> None:
        """(name, value) of the most important numbers."""
        cards = ''.join(
            f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>'
            for name, value in values
        )
        self.add(f'<div class="cards">{cards}</div>')

    def tables(self, *tables: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
        """Tables side by side, or one below the other. The first row of cells of each is its header;
        ``numbers`` are columns of numbers."""
        made = ''.join(self._table(rows, numbers) for rows in tables)
        self.add(f'<div class="tables">{made}</div>')

    def _table(self, rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
        lines = []
        for tag, row in zip(['th'] + ['td'] * len(rows), rows):
            cells = []
            for i, cell in enumerate(row):
                kind = 'number' if i in numbers else 'wide' if len(cell) > 40 else ''
                cells.append(f'<{tag} class="{kind}">{escape(cell)}</{tag}>')
            lines.append(f'<tr>{"".join(cells)}</tr>')
        return f'<div class="scroll"><table>{"".join(lines)}</table></div>'

    def code(self, text: str, summary: str = '') -> None:
        """Text with its line breaks; behind a line to click on if it has a ``summary``."""
        block = f'<pre>{escape(text)}</pre>'
        if summary:
            block = f'<details><summary>{escape(summary)}</summary>{block}</details>'
        self.add(block)

    def pictures(self, pictures: Sequence[tuple[str, str, str]], kind: str = 'photos') -> None:
        """(address, what it shows, caption) of pictures side by side, or one below the other."""
        figures = ''.join(
            f'<figure><img src="{address}" alt="{escape(alt, quote=True)}">'
            + (f'<figcaption>{escape(caption)}</figcaption>' if caption else '')
            + '</figure>'
            for address, alt, caption in pictures
        )
        self.add(f'<div class="grid {kind}">{figures}</div>')

    def charts(self, figures: Sequence[Figure]) -> None:
        """Charts by the titles of their axes."""
        self.pictures([(chart_address(f), f.axes[0].get_title(), '') for f in figures], 'charts')

    def render(self) -> str:
        links = ''.join(
            f'<a href="#part{i}">{escape(title)}</a>' for i, (title, _) in enumerate(self.sections)
        )
        parts = '\n'.join(
            f'<section id="part{i}"><h2>{escape(title)}</h2>\n' + '\n'.join(content) + '</section>'
            for i, (title, content) in enumerate(self.sections)
        )
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(self.title)}</title><style>{STYLE}</style></head>\n<body>'
            f'<h1>{escape(self.title)}</h1><p class="dim">{escape(self.subtitle)}</p>'
            f'<nav>{links}</nav>\n{parts}\n</body></html>\n'
        )


def chart_address(figure: Figure) -> str:
    """A chart as the address of an SVG within the page."""
    file = io.BytesIO()
    figure.savefig(file, format='svg')
    return _address('image/svg+xml', file.getvalue())


def raster_address(figure: Figure) -> str:
    """A figure with photographs as the address of a JPEG within the page."""
    file = io.BytesIO()
    figure.savefig(file, format='jpeg', dpi=DPI, pil_kwargs={'quality': QUALITY})
    return _address('image/jpeg', file.getvalue())


def picture_address(image: np.ndarray) -> str:
    """(H, W, 3) uint8, RGB, as the address of a JPEG within the page."""
    pixels = np.ascontiguousarray(image[..., ::-1])
    data = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return _address('image/jpeg', data.tobytes())


def _address(kind: str, content: bytes) -> str:
    return f'data:{kind};base64,{base64.b64encode(content).decode("ascii")}'
