"""The digits set: handwriting on photographs, made without a download."""

from .build import make_digits

__all__ = ['make_digits']
