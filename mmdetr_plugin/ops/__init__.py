"""Tensor maths without any OpenMMLab import."""
