"""What a parity case is and how our model is run on it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor

from ..checkpoints import from_official, to_official
from ..criterion.targets import Targets
from ..detector import DETR
from ..engine.project import project_root
from ..ops.boxes import cxcywh_to_xyxy
from ..registry import MODELS

Arrays = dict[str, np.ndarray]
# Names of our losses and of the official ones.
TERMS = {
    'loss_cls': 'loss_ce',
    'loss_bbox': 'loss_bbox',
    'loss_iou': 'loss_giou',
    'loss_mask': 'loss_mask',
    'loss_dice': 'loss_dice',
}


@dataclass(frozen=True)
class Case:
    """A folder with ``spec.json`` and ``golden.npz`` of one run of an official implementation."""

    folder: Path
    spec: dict[str, Any]
    golden: Arrays

    @classmethod
    def load(cls, folder: str | Path) -> Case:
        folder = Path(folder)
        if not (folder / 'spec.json').is_file() or not (folder / 'golden.npz').is_file():
            raise FileNotFoundError(
                f'a case must be a folder with spec.json and golden.npz, got {folder}; '
                'the cases of the project are in tests/parity/cases'
            )
        spec = json.loads((folder / 'spec.json').read_text())
        with np.load(folder / 'golden.npz') as golden:
            return cls(folder, spec, {name: golden[name] for name in golden.files})

    @property
    def name(self) -> str:
        return self.spec['case']

    @property
    def hyper(self) -> dict[str, Any]:
        """Settings of the official build."""
        return self.spec['hyperparameters']

    def reference(self) -> ModuleType:
        """The module ``reference_tensors.py``: that of the cases, otherwise the project's own copy.

        Raises:
            FileNotFoundError: there is neither; the project's copy is in its checkout only.
        """
        name = 'reference_tensors.py'
        beside = self.folder.resolve().parents[1] / name
        own = project_root() / 'tests' / 'parity' / name
        for path in (beside, own):
            if path.is_file():
                return _load(path)
        raise FileNotFoundError(
            f'{name} must be two folders above the case ({beside}) or in the checkout ({own}), got '
            f'neither; copy it from tests/parity of the repository to {beside}'
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The case's weights in the official layout."""
        return {k: torch.from_numpy(v) for k, v in self.reference().state_dict(self.spec).items()}

    def model(self) -> DETR:
        """The config's model with the case's weights, in evaluation mode."""
        cfg = Config.fromfile(project_root() / self.spec['config'])
        cfg.model.num_classes = self.spec['num_classes']
        cfg.model.backbone.init_cfg = None
        if 'panoptic_threshold_used' in self.hyper:
            last_thing = int(self.hyper['is_thing_map'].removeprefix('label <= '))
            threshold = self.hyper['panoptic_threshold_used']
            cfg.model.test_cfg = {'score_thr': threshold, 'num_things': last_thing + 1}
        model: DETR = MODELS.build(cfg.model).eval()
        model.load_state_dict(from_official(self.state_dict(), model))
        return model

    def batch(self) -> tuple[Tensor, list[DetDataSample]]:
        """Images padded to the largest, and their samples (with objects in a loss case)."""
        images = self.reference().images(self.name, self.spec['sizes'])
        canvas = tuple(max(image.shape[i] for image in images) for i in (1, 2))
        batch = torch.zeros(len(images), 3, *canvas)
        samples = []
        for i, image in enumerate(images):
            height, width = image.shape[1:]
            batch[i, :, :height, :width] = torch.from_numpy(image)
            shape = {'img_shape': (height, width), 'batch_input_shape': canvas}
            original = self.hyper.get('original_sizes', self.spec['sizes'])[i]
            meta = {**shape, 'ori_shape': tuple(original), 'img_id': i}
            samples.append(DetDataSample(metainfo=meta))
        if self.spec['mode'] == 'loss':
            targets = self.reference().targets(self.name, self.spec['counts'], 80)
            for sample, target in zip(samples, targets, strict=True):
                height, width = sample.img_shape
                scale = torch.tensor((width, height, width, height))
                boxes = cxcywh_to_xyxy(torch.from_numpy(target['boxes'])) * scale
                labels = torch.from_numpy(target['labels'])
                sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
                if 'mask_head' in self.hyper:
                    sample.gt_instances.masks = box_masks(target['boxes'], height, width)
        return batch, samples


def _load(path: Path) -> ModuleType:
    """The module in a file, without an entry in ``sys.modules``."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # a file that ends in .py has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def box_masks(boxes: np.ndarray, height: int, width: int) -> BitmapMasks:
    """A mask for every box (n, 4) cxcywh in 0..1: its pixels, half open, corners rounded."""
    centre, half = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64) / 2
    corners = np.concatenate((centre - half, centre + half), 1)
    corners = np.rint(corners * (width, height, width, height)).astype(int)
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = 1
    return BitmapMasks(masks, height, width)


def run_outputs(model: DETR, batch: Tensor, samples: list[DetDataSample]) -> dict[str, Any]:
    """Outputs, with the memory before and after the encoder and the first state beside them."""
    record: dict[str, Any] = {}

    def keep(module: torch.nn.Module, args: tuple, memory: object) -> None:
        record.update(embedded=args[0], memory=memory)

    def keep_state(module: torch.nn.Module, args: tuple, result: tuple) -> None:
        record['state'] = result[0]

    hooks = ((model.encoder, keep), (model.queries, keep_state))
    handles = [part.register_forward_hook(hook) for part, hook in hooks]
    try:
        outputs = model(batch, samples, mode='tensor')
    finally:
        for handle in handles:
            handle.remove()
    return {'outputs': outputs, **record}


def output_arrays(run: dict[str, Any], spec: dict[str, Any]) -> Arrays:
    """Ours under the golden names: predictions, auxiliary and encoder outputs, memory statistics."""
    outputs, strides = run['outputs'], spec['strides']
    logits, boxes = outputs['pred_logits'], outputs['pred_boxes']
    arrays = {
        'pred_logits': logits[-1],
        'pred_boxes': boxes[-1],
        'aux_logits': logits[:-1, :, :: strides.get('aux_logits', 1)],
        'aux_boxes': boxes[:-1, :, :: strides.get('aux_boxes', 1)],
    }
    if run['state'].ref is not None:
        arrays['reference_points'] = run['state'].ref[..., :2].sigmoid()
    if 'pred_masks' in outputs:
        arrays['pred_masks'] = outputs['pred_masks'][:, :: strides.get('pred_masks', 1)]
    if 'enc_logits' in outputs:
        step = strides.get('enc', 1)
        arrays['enc_logits'] = outputs['enc_logits'][:, ::step]
        arrays['enc_boxes'] = outputs['enc_boxes'][:, ::step]
        arrays['enc_score0'] = outputs['enc_logits'][..., 0]
        count = min(logits.shape[2], outputs['enc_logits'].shape[1])
        arrays['topk_index'] = outputs['enc_logits'][..., 0].topk(count, 1).indices
    embedded, memory = run['embedded'], run['memory']
    for prefix, value in (('input_proj', embedded), ('memory', memory)):
        mean, std = _statistics(value.tokens, value.mask)
        arrays[f'{prefix}_mean'], arrays[f'{prefix}_std'] = mean, std
        sizes = [h * w for h, w in value.shapes]
        levels = zip(value.tokens.split(sizes, 1), value.mask.split(sizes, 1), strict=True)
        for i, (tokens, mask) in enumerate(levels):
            mean, std = _statistics(tokens, mask)
            arrays[f'{prefix}_mean_{i}'], arrays[f'{prefix}_std_{i}'] = mean, std
            arrays[f'{prefix}_valid_{i}'] = (~mask).sum(1)
    arrays['memory_valid'] = (~memory.mask).sum(1)
    arrays['feature_mask'] = embedded.masks()[-1]
    height, width = embedded.shapes[-1]
    code = embedded.level(-1).pos.transpose(1, 2).unflatten(2, (height, width))
    arrays['pos_embed_every8'] = code[:, ::8]
    return {name: value.detach().numpy() for name, value in arrays.items()}


def _statistics(tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population deviation per image and channel over unpadded tokens."""
    parts = [t[~m].double() for t, m in zip(tokens, mask, strict=True)]
    means = torch.stack([p.mean(0) for p in parts])
    return means, torch.stack([p.std(0, correction=0) for p in parts])


def detection_arrays(model: DETR, batch: Tensor, samples: list[DetDataSample]) -> Arrays:
    """``scores``, ``labels`` and ``boxes`` (B, M) after post-processing, in pixels of the input."""
    results = [s.pred_instances for s in model.predict(batch, samples, rescale=False)]
    names = {'scores': 'scores', 'labels': 'labels', 'boxes': 'bboxes'}
    return {ours: torch.stack([r[mm] for r in results]).numpy() for ours, mm in names.items()}


def segment_arrays(
    model: DETR, batch: Tensor, samples: list[DetDataSample], spec: dict[str, Any]
) -> Arrays:
    """Instance masks and panoptic segments at the original sizes, where the model gives them.

    ``segm_area`` (B, N) counts the pixels of every query's mask; ``panoptic_ids_i`` (H, W) numbers
    the rows of ``panoptic_segments_i`` (n, 4): number, is it a thing, class, pixels.
    """
    if model.mask_head is None:
        return {}
    arrays, areas = {}, []
    for i, sample in enumerate(model.predict(batch, samples, rescale=True)):
        masks = sample.pred_instances.masks.numpy()
        areas.append(masks.sum((1, 2)))
        step = spec['strides'].get('pred_masks', 1)
        arrays[f'segm_masks_{i}_packed'] = np.packbits(masks[::step], axis=-1)
        codes = sample.pred_panoptic_seg.sem_seg[0].numpy()
        infos = sample.pred_panoptic_seg.segments_info
        ids = np.zeros(codes.shape, np.uint8)
        rows = []
        for number, info in enumerate(infos):
            ids[codes == info['id']] = number
            rows.append((number, info['isthing'], info['category_id'], info['area']))
        arrays[f'panoptic_ids_{i}'] = ids
        arrays[f'panoptic_segments_{i}'] = np.array(rows, np.int64)
    return {**arrays, 'segm_area': np.stack(areas)}


def loss_arrays(
    model: DETR, outputs: dict[str, Tensor], losses: dict[str, Tensor], samples: list[DetDataSample]
) -> Arrays:
    """Unweighted terms, the total, matches and gradient norms, under the golden names.

    ``losses`` must not have been differentiated yet; their gradients are left in the model.
    """
    arrays: Arrays = {}
    criterion = model.criterion
    for key, value in losses.items():
        layer, _, term = key.rpartition('.')
        encoder = term.startswith('enc_')
        term = term.removeprefix('enc_')
        suffix = '_enc' if encoder else layer and f'_{layer[1:]}'
        weight = getattr(getattr(criterion, term, None), 'loss_weight', 1.0)
        arrays[f'loss/{TERMS.get(term, term)}{suffix}'] = value.detach().numpy() / weight
    terms = (value for key, value in losses.items() if 'loss' in key)
    total = sum(terms, start=torch.zeros(()))
    arrays['loss_total'] = total.detach().numpy()
    matches = criterion.match(outputs, Targets.from_samples(samples, model.num_classes))
    for prefix, images in matches.items():
        layer = prefix.rstrip('._')
        for i, pair in enumerate(images):
            for side, index in zip(('src', 'tgt'), pair, strict=True):
                if layer.startswith('d'):  # the cases use two spellings
                    arrays[f'aux{layer[1:]}_match_{side}_{i}'] = index.numpy()
                    arrays[f'match_aux{layer[1:]}_{side}_{i}'] = index.numpy()
                else:
                    arrays[f'{layer and layer + "_"}match_{side}_{i}'] = index.numpy()
    total.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for name, grad in to_official(grads, model).items():
        arrays[f'grad_norm/{name}'] = grad.double().norm().numpy()
    return arrays
