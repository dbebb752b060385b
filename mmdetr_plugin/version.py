"""The package's version; `setup.py` reads it from this file's text."""

__version__ = '0.1.0'
