"""What a forward pass must not do: wait for the device, or materialise attention weights.

On the meta device tensors have no values, so whatever would copy one to the host fails: ``item``,
``tolist``, ``nonzero``, indexing by a mask, a branch on a tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from steps import FAMILIES
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mmdetr_plugin.heads import ClasswiseNMS
from mmdetr_plugin.ops import regions
from mmdetr_plugin.testing.counting import build_shapes


def on_meta(name: str) -> tuple[nn.Module, Tensor, list]:
    model = build_shapes(tiny.shrink(tiny.load(name).model)).eval()
    return model, torch.zeros(2, 3, *tiny.CANVAS, device='meta'), tiny.batch()[1]


@pytest.fixture
def _pooling(monkeypatch: pytest.MonkeyPatch) -> None:
    """mmcv's RoIAlign has no meta kernel; its CUDA kernel does not wait."""

    def pool(features: Tensor, rois: Tensor, size: tuple[int, int], *_: object) -> Tensor:
        return features.new_empty(len(rois), features.shape[1], *size)

    monkeypatch.setattr(regions, 'roi_align', pool)


@pytest.mark.usefixtures('_pooling')
@pytest.mark.parametrize('name', tiny.CONFIGS)
def test_forward_pass_copies_nothing_to_the_host(name: str) -> None:
    model, images, samples = on_meta(name)
    if 'rcnn' in name:
        pytest.skip('how many regions there are decides the shape of what follows')
    outputs = model(images, samples, mode='tensor')
    assert all(value.is_meta for value in outputs.values())
    if model.mask_head is None and not isinstance(
        model.postprocess, ClasswiseNMS
    ):  # which segments there are decides the shape of what follows
        (first, _) = model.predict(images, samples)
        assert first.pred_instances.bboxes.is_meta


def test_a_copy_to_the_host_would_be_noticed() -> None:
    model, images, samples = on_meta('detr_r50')

    def select(module: nn.Module, args: tuple, maps: tuple[Tensor, ...]) -> None:
        maps[0][maps[0] > 0].sum()

    model.neck.register_forward_hook(select)
    with pytest.raises(NotImplementedError, match='nonzero'):
        model(images, samples, mode='tensor')


class Copies(TorchFunctionMode):
    """Collects the functions that read numbers or tensors of the host into the device's."""

    made = torch.tensor, torch.as_tensor, torch.from_numpy, Tensor.new_tensor

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        index = args[1] if func is Tensor.__getitem__ else ()
        parts = index if isinstance(index, tuple) else (index,)
        from_host = [x for x in (*args[:1], *parts) if isinstance(x, Tensor) and not x.is_meta]
        if func in self.made or from_host or any(isinstance(x, list) for x in parts):
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures('_pooling')
@pytest.mark.parametrize('name', [*FAMILIES, 'sam_detr_ms_smca_r50'])
def test_forward_pass_without_padding_copies_nothing_to_the_device(name: str) -> None:
    """Such copies wait for a GPU, and a CUDA graph cannot capture them."""
    model, images, samples = on_meta(name)
    model(images, None, mode='tensor')  # sizes of levels stay on the device
    with Copies() as copies:
        model(images, None, mode='tensor')
    assert not copies.seen
    with Copies() as copies:
        model(images, samples, mode='tensor')
    made = [name for name in copies.seen if name.endswith('tensor')]
    assert len(made) == 2, 'sizes of padded images'


class Watch(TorchFunctionMode):
    """Counts calls of fused attention and keeps the shapes of softmax outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = 0
        self.softmax: set[tuple[int, ...]] = set()
        self.masks: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.fused += 1
            mask = (kwargs or {}).get('attn_mask')
            self.masks.update({} if mask is None else {id(mask): mask})
        elif getattr(func, '__name__', '') in ('softmax', '_softmax'):
            self.softmax.add(tuple(out.shape))
        return out


def watch(name: str) -> tuple[Watch, int, int]:
    """A forward pass in training mode; numbers of queries and of tokens."""
    model = tiny.build(name).train()
    images, samples = tiny.batch(sizes=((96, 160), (64, 160)))
    tokens = sum(m.shape[-2:].numel() for m in model.extract_feat(images))
    with Watch() as seen:
        outputs = model.run(images, samples).tensors()
    return seen, outputs['pred_logits'].shape[2], tokens


@pytest.mark.parametrize('name', tiny.CONFIGS)
def test_weights_of_dense_attention_are_never_materialised(name: str) -> None:
    seen, queries, tokens = watch(name)
    assert seen.fused > 0  # queries among themselves, if nothing else
    full = {queries, tokens}
    assert not [shape for shape in seen.softmax if set(shape[-2:]) <= full], seen.softmax


def test_every_dense_attention_is_fused() -> None:
    encoder, decoder = 1, 2
    assert watch('detr_r50')[0].fused == encoder + 2 * decoder
    assert watch('deformable_detr_r50')[0].fused == decoder


@pytest.mark.parametrize('name', ['detr_r50', 'conditional_detr_r50', 'dab_detr_r50'])
def test_padding_masks_are_made_once_and_not_expanded(name: str) -> None:
    """One for the layers of the encoder, one for those of the decoder."""
    seen, _, tokens = watch(name)
    assert len(seen.masks) == 2
    assert {tuple(mask.shape) for mask in seen.masks.values()} == {(2, 1, 1, tokens)}
