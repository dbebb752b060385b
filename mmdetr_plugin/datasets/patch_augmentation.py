"""Random changes of colour and sharpness of PIL images (UP-DETR's code; MoCo v2 has the same)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

Change = Callable[[Image.Image], Image.Image]


def augment(image: Image.Image) -> Image.Image:
    """Jittered colours in 8 of 10 images, greys in 2 of 10, a blur in 5 of 10."""
    for change, probability in ((jitter, 0.8), (grey, 0.2), (blur, 0.5)):
        if np.random.rand() < probability:
            image = change(image)
    return image


def jitter(image: Image.Image) -> Image.Image:
    """Brightness, contrast and saturation by a factor in 0.6..1.4, and the hue by up to a tenth of the
    circle, in random order."""
    changes: list[Change] = [
        enhanced(kind, np.random.uniform(0.6, 1.4))
        for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    ]
    changes.append(turned(np.random.uniform(-0.1, 0.1)))
    for i in np.random.permutation(len(changes)):
        image = changes[i](image)
    return image


def enhanced(kind: Callable, factor: float) -> Change:
    return lambda image: kind(image).enhance(factor)


def turned(share: float) -> Change:
    """Adds ``share`` of a circle to the hue."""

    def change(image: Image.Image) -> Image.Image:
        hue, saturation, value = image.convert('HSV').split()
        shifted = np.asarray(hue).astype(np.int16) + round(share * 255)
        hue = Image.fromarray((shifted % 256).astype(np.uint8), 'L')
        return Image.merge('HSV', (hue, saturation, value)).convert('RGB')

    return change


def grey(image: Image.Image) -> Image.Image:
    return image.convert('L').convert('RGB')


def blur(image: Image.Image) -> Image.Image:
    """Gaussian blur of a random width, 0.1 to 2 pixels."""
    return image.filter(ImageFilter.GaussianBlur(np.random.uniform(0.1, 2.0)))
