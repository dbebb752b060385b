"""Looks at an HTML page in headless Chromium, where there is one."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
BINARY = next(filter(None, map(shutil.which, NAMES)), None)
HEIGHT = 900
MEASURE = """
const frame = document.querySelector('iframe');
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const inside = node => node.closest('.scroll, pre, details:not([open])');
  const wide = [...page.querySelectorAll('body *')].filter(
    node => !inside(node) && node.getBoundingClientRect().right > frame.clientWidth + 1);
  const images = [...page.images];
  const seen = JSON.stringify({
    width: root.clientWidth, content: root.scrollWidth,
    wide: wide.map(node => node.tagName + ' ' + node.textContent.slice(0, 40)),
    images: images.length, broken: images.filter(image => !image.naturalWidth).length,
    least: Math.min(...images.map(image => image.clientWidth)),
    columns: Math.max(...[...page.querySelectorAll('.grid')].map(
      grid => page.defaultView.getComputedStyle(grid).gridTemplateColumns.split(' ').length)),
    addresses: [...page.querySelectorAll('[src], link')].map(
      node => (node.src || node.href).slice(0, 5)),
  });
  document.body.innerHTML = '<output></output>';
  document.querySelector('output').textContent = seen;
};
"""


def chromium(*options: str) -> str:
    command = [BINARY, '--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage']
    command += ['--no-first-run', '--virtual-time-budget=20000', *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def measure(page: Path, width: int, folder: Path) -> dict:
    """Sizes of a page that is shown ``width`` pixels wide."""
    source = html.escape(page.read_text(encoding='utf-8'), quote=True)
    wrapper = folder / f'frame_{width}.html'
    wrapper.write_text(
        f'<!doctype html><meta charset="utf-8"><style>body {{ margin: 0 }}</style>'
        f'<iframe width="{width}" height="{HEIGHT}" style="border: 0" srcdoc="{source}"></iframe>'
        f'<script>{MEASURE}</script>',
        encoding='utf-8',
    )
    shown = chromium('--dump-dom', '--window-size=1500,1000', wrapper.as_uri())
    return json.loads(html.unescape(re.search(r'<output>(.*?)</output>', shown, re.S)[1]))
