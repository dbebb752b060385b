"""Tensor operations that import nothing from OpenMMLab."""
