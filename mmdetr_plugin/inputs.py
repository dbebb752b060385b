"""Images as people hand them to a detector: what is not 3 x 8 bits is converted, or refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.structures import DetDataSample, SampleList
from torch import Tensor, nn

WHITE = 255
DEEP = 65535
ADVICE = 'give pixels from 0 to 255, B, G, R, as cv2.imread does'


def channels_of(backbone: nn.Module) -> int:
    """Channels of the images that a backbone reads: those of its first convolution, else 3."""
    first = next((part for part in backbone.modules() if isinstance(part, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels


def prepare(data: Mapping | Sequence, channels: int = 3) -> Mapping | Sequence:
    """The data of a test step with images of as many channels as the model reads, from 0 to 255.

    Grey images get three equal channels; 16 bits are mapped to 0..255, with 65535 as 255.

    Args:
        data: ``inputs``, a list of (C, H, W) tensors, or one (B, C, H, W); ``data_samples`` of them.
        channels: that the model reads.

    Raises:
        ValueError: there is no image, or one has no size, another number of channels, or, given as an
            array, values that cannot be pixels.
    """
    if not isinstance(data, Mapping) or 'inputs' not in data:
        return data
    images, samples = data['inputs'], data.get('data_samples') or ()
    if len(images) == 0:
        raise ValueError('the list of images must have at least one image, got none')
    names = [_path(sample) for sample in samples] or [None] * len(images)
    prepared = [_prepare(image, name, channels) for image, name in zip(images, names, strict=False)]
    joined = torch.stack(prepared) if isinstance(images, Tensor) else prepared
    return {**data, 'inputs': joined}


def _path(sample: DetDataSample) -> str | None:
    found = sample.get('img_path')
    return None if found is None else str(found)


def _prepare(image: Any, path: str | None, channels: int) -> Tensor:
    what = path or 'an image'
    if not isinstance(image, Tensor) or image.dim() != 3:
        got = f'shape {tuple(image.shape)}' if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(f'{what} must be a tensor (channels, height, width), got {got}; {ADVICE}')
    if image.numel() == 0 or image.dtype.is_complex or image.dtype == torch.bool:
        raise ValueError(
            f'{what} must have pixels, got shape {tuple(image.shape)} of {image.dtype}; {ADVICE}'
        )
    if image.shape[0] not in {channels, 3, 1 if channels == 3 else channels}:
        grey = ', or 1 if it is grey' if channels == 3 else ''
        raise ValueError(
            f'{what} must have {channels} channels{grey}, got {image.shape[0]}; leave out the alpha '
            'channel: image[..., :3]'
        )
    if image.dtype == torch.uint16:
        image = image.float() * (WHITE / DEEP)
    elif image.dtype != torch.uint8 and path is None:  # what is in files is known to their loader
        _check_values(image, what)
    return image.expand(channels, -1, -1) if image.shape[0] == 1 else image


def _check_values(image: Tensor, what: str) -> None:
    low, high = (float(x) for x in image.aminmax())
    if not (low >= 0 and high <= WHITE):
        raise ValueError(
            f'{what} must have pixels from 0 to 255, got {low:g} to {high:g}; {ADVICE}, before '
            'any normalisation'
        )
    if image.is_floating_point() and 0 < high <= 1:
        raise ValueError(
            f'{what} must have pixels from 0 to 255, got numbers from {low:g} to {high:g}; multiply '
            'by 255'
        )


def check_batch(images: Any, model: nn.Module) -> None:
    """Check a batch before the backbone sees it.

    Raises:
        ValueError: it is not (B, C, H, W), has no pixels, or is not of the precision of the weights.
    """
    channels = channels_of(model)
    fits = isinstance(images, Tensor) and images.dim() == 4 and images.shape[1] in (3, channels)
    if not fits:
        got = (
            f'shape {tuple(images.shape)}' if isinstance(images, Tensor) else type(images).__name__
        )
        raise ValueError(
            f'images must be a tensor (batch, {channels}, height, width), got {got}; one image is '
            'image[None]'
        )
    if 0 in images.shape:
        raise ValueError(f'images must have pixels, got shape {tuple(images.shape)}')
    weight = next((p for p in model.parameters() if p.is_floating_point()), None)
    if not images.is_floating_point() or (
        weight is not None
        and weight.dtype != images.dtype
        and not torch.is_autocast_enabled(images.device.type)
    ):
        dtype = None if weight is None else weight.dtype
        raise ValueError(
            f'images must be normalised numbers of the precision of the weights, {dtype}, got '
            f'{images.dtype}; for 16 bits keep the weights as they are and run the model within '
            'torch.autocast'
        )


def unpadded(images: Tensor) -> SampleList:
    """Samples of a batch (B, 3, H, W) that has no padding and is in its original size."""
    height, width = images.shape[-2:]
    meta = {
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'batch_input_shape': (height, width),
        'scale_factor': (1.0, 1.0),
    }
    return [DetDataSample(metainfo=meta) for _ in images]


def check_annotated(samples: SampleList | None, number: int) -> None:
    """Check the samples of ``number`` images that losses are computed of.

    Raises:
        ValueError: some are missing, or have no ``gt_instances``.
    """
    if samples is None or len(samples) != number:
        got = 'none' if samples is None else f'{len(samples)}'
        raise ValueError(f'losses need a sample for each of the {number} images, got {got}')
    missing = [i for i, sample in enumerate(samples) if 'gt_instances' not in sample]
    if missing:
        raise ValueError(
            f'losses need gt_instances in every sample, but samples {missing[:5]} have none; an image '
            'without objects has empty ones'
        )
