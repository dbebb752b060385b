"""One HTML page about a training run (`tools/report.py`)."""

from .report import write_report

__all__ = ['write_report']
