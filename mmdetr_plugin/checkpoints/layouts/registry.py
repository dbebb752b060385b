"""The table of layouts."""

from __future__ import annotations

from .layout import Layout

LAYOUTS: dict[str, Layout] = {}
"""Names of layouts -> layouts."""


def register(layout: Layout) -> Layout:
    """Add a layout to the table, so that its files are recognised and its name can be used.

    Raises:
        ValueError: there is one of this name.
    """
    if layout.name in LAYOUTS:
        raise ValueError(
            f"the name of a layout must be new, but there is a layout '{layout.name}' already; "
            'choose another name'
        )
    LAYOUTS[layout.name] = layout
    return layout
