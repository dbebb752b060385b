"""Whether a graph is being made that must run without this package."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """Whether ``torch.export`` or ``torch.jit.trace`` records what is computed now.

    Such a graph must consist of standard operators, and must not depend on the sizes of the example
    that it is recorded with. Every op that has a faster form for eager execution asks here.
    """
    # torch before 2.7 has no is_exporting.
    recording = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
    return torch.jit.is_tracing() or recording()
