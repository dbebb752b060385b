"""Parity cases, and how our model is run on them."""

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
from ..datasets.unlabelled import PATCH
from ..detector import DETR
from ..engine.project import project_root
from ..ops.boxes import cxcywh_to_xyxy
from ..queries import EncoderProposals, PatchQueries
from ..registry import MODELS
from ..structures import Memory, Outputs, Prediction, State, Targets
from ..transformer import HybridEncoder
from .golden_names import BRANCHES, golden_matches, golden_terms, term_of
from .patch_arrays import patch_arrays

Arrays = dict[str, np.ndarray]


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
        above = self.folder.resolve().parents[1] / name
        own = project_root() / 'tests' / 'parity' / name
        for path in (above, own):
            if path.is_file():
                return _load(path)
        raise FileNotFoundError(
            f'{name} must be two folders above the case ({above}) or in the checkout ({own}), got '
            f'neither; copy it from tests/parity of the repository to {above}'
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
                if 'num_patches' in self.hyper:  # every object is a patch
                    labels = torch.full_like(labels, PATCH)
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


@dataclass(frozen=True)
class Run:
    """Outputs and intermediate values of a forward pass.

    Attributes:
        outputs: predictions; in a loss case including those of queries that only serve training.
        losses: in a loss case, before the backward pass.
        targets: in a loss case.
        embedded, memory: input and output of the encoder.
        state: the queries before the decoder.
        maps: ``backbone0``, ..., and of the fusion in a hybrid encoder ``neck0``, ..., (B, C, H, W)
            each.
    """

    outputs: Outputs
    losses: dict[str, Tensor]
    targets: Targets | None
    embedded: Memory
    memory: Memory
    state: State
    maps: dict[str, Tensor]


def run_model(model: DETR, batch: Tensor, samples: list[DetDataSample], loss: bool = False) -> Run:
    """A forward pass, and with ``loss`` the losses of it."""
    kept: dict[str, Any] = {}

    def keep(module: torch.nn.Module, args: tuple, memory: Memory) -> None:
        kept.update(embedded=args[0], memory=memory)

    def keep_state(module: torch.nn.Module, args: tuple, result: tuple) -> None:
        kept['state'] = result[0]

    def keep_outputs(module: torch.nn.Module, args: tuple) -> None:
        kept.update(outputs=args[0], targets=args[1])

    maps: dict[str, Tensor] = {}

    def keep_maps(module: torch.nn.Module, args: tuple, found: tuple[Tensor, ...]) -> None:
        maps.update({f'backbone{i}': value for i, value in enumerate(found)})

    handles = [
        model.backbone.register_forward_hook(keep_maps),
        model.encoder.register_forward_hook(keep),
        model.queries.register_forward_hook(keep_state),
        model.criterion.register_forward_pre_hook(keep_outputs),
    ]
    if isinstance(model.encoder, HybridEncoder):
        handles += keep_fused(model.encoder, maps)
    kept.update(losses={}, targets=None, maps=maps)
    try:
        if loss:
            kept['losses'] = model.loss(batch, samples)
        else:
            kept['outputs'] = model.run(batch, samples)
    finally:
        for handle in handles:
            handle.remove()
    return Run(**kept)


def keep_fused(encoder: HybridEncoder, maps: dict[str, Tensor]) -> list[Any]:
    """Hooks that put what the fusion of the levels gives into ``maps``."""
    if encoder.projections is None:
        return [
            encoder.register_forward_hook(
                lambda _, __, memory: maps.update(
                    {f'neck{i}': value for i, value in enumerate(memory.maps())}
                )
            )
        ]
    return [
        part.register_forward_pre_hook(lambda _, args, i=i: maps.update({f'neck{i}': args[0]}))
        for i, part in enumerate(encoder.projections)
    ]


def output_arrays(model: DETR, run: Run, case: Case) -> Arrays:
    """Our arrays by golden names: predictions of all branches, proposals, statistics of memories."""
    strides = dict(case.spec['strides'])
    if 'dn' in strides:
        strides['dn_pred_logits'] = strides['dn']
    arrays: dict[str, Tensor] = {}
    start = 0
    for branch in run.outputs.runs():
        name = BRANCHES[branch.prefix]
        rows = slice(start, start + branch.size)
        start += branch.size
        logits, boxes = (
            torch.stack([getattr(layer, kind)[:, rows] for layer in run.outputs.layers])
            for kind in ('logits', 'boxes')
        )
        for kind, values in (('logits', logits), ('boxes', boxes)):
            pred, aux = f'{name.pred}_{kind}', f'{name.aux}_{kind}'
            arrays[pred] = values[-1][:, :: strides.get(pred, 1)]
            arrays[aux] = values[:-1, :, :: strides.get(aux, 1)]
    corners = run.outputs.layers[-1].extra.get('corners')
    if corners is not None:
        chosen = corners[:, run.outputs.detecting, ...][:, :: strides.get('corners', 1)]
        arrays['pred_corners'] = chosen.flatten(2)
    if run.state.ref is not None:
        arrays['reference_points'] = run.state.ref.points().unit()
    if isinstance(model.queries, PatchQueries) and run.state.branches:
        arrays.update(patch_arrays(model, run.state, run.outputs, strides))
    if run.outputs.masks is not None:
        arrays['pred_masks'] = run.outputs.masks.dense()[:, :: strides.get('pred_masks', 1)]
    proposals = run.outputs.proposals
    made = None if proposals is None else proposals.prediction
    if made is not None:
        arrays.update(_proposal_arrays(model, run, made, strides.get('enc', 1)))
    pooled = case.golden.get('memory_mean', np.zeros((1, 1))).ndim == 1
    sample = 'n - 1' in case.spec['notes'].get('memory', '')
    for prefix, value in (('input_proj', run.embedded), ('memory', run.memory)):
        pairs = {'': (value.tokens, value.mask)}
        sizes = [h * w for h, w in value.shapes]
        levels = zip(value.tokens.split(sizes, 1), value.mask.split(sizes, 1), strict=True)
        pairs.update({f'_{i}': level for i, level in enumerate(levels)})
        for suffix, (tokens, mask) in pairs.items():
            mean, std = _statistics(tokens, mask, pooled, sample)
            arrays[f'{prefix}_mean{suffix}'], arrays[f'{prefix}_std{suffix}'] = mean, std
            arrays[f'{prefix}_valid{suffix}'] = (~mask).sum(1)
    for prefix, found in run.maps.items():
        tokens = found.flatten(2).mT
        mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        arrays[f'{prefix}_mean'], arrays[f'{prefix}_std'] = _statistics(tokens, mask, False, False)
    arrays['feature_mask'] = run.embedded.masks()[-1]
    height, width = run.embedded.shapes[-1]
    code = run.embedded.level(-1).pos.transpose(1, 2).unflatten(2, (height, width))
    arrays['pos_embed_every8'] = code[:, ::8]
    return {name: value.detach().numpy() for name, value in arrays.items()}


def _proposal_arrays(model: DETR, run: Run, made: Prediction, step: int) -> dict[str, Tensor]:
    """The proposals ``made``, scores of all tokens, and which tokens were selected.

    A token that makes no proposal has -1 in the place of its number: such tokens have equal scores,
    so their order is arbitrary.
    """
    source = next(part for part in model.modules() if isinstance(part, EncoderProposals))
    anchors, valid = source.anchors(run.memory)
    tokens = source.output_norm(source.output(run.memory.tokens * valid))
    logits = model.head.propose_classes(tokens)
    selected = sum(branch.size for branch in run.outputs.runs() if branch.pairs is None)
    number = min(selected, logits.shape[1])
    index = source.best(logits, number)
    every = index[..., None].expand(-1, -1, 4)
    return {
        'enc_logits': made.logits[:, ::step],
        'enc_boxes': made.boxes[:, ::step],
        'enc_score0': logits[..., 0],
        'enc_score': logits.amax(-1),
        'enc_proposal_boxes': anchors.unit().gather(1, every)[:, ::step],
        'topk_index': torch.where(valid[..., 0].gather(1, index), index, -1),
    }


def _statistics(tokens: Tensor, mask: Tensor, pooled: bool, sample: bool) -> tuple[Tensor, Tensor]:
    """Mean and deviation per image and channel over unpadded tokens.

    Args:
        pooled: over the tokens of all images together.
        sample: with n - 1 in the denominator.
    """
    parts = [t[~m].double() for t, m in zip(tokens, mask, strict=True)]
    if pooled:
        parts = [torch.cat(parts)]
    means = torch.stack([p.mean(0) for p in parts])
    stds = torch.stack([p.std(0, correction=int(sample)) for p in parts])
    return (means[0], stds[0]) if pooled else (means, stds)


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


def loss_arrays(model: DETR, run: Run) -> Arrays:
    """Unweighted terms, the total, matches and gradient norms, under the golden names.

    The gradients are left in the model.

    Raises:
        ValueError: it is not the run of a loss case.
    """
    if run.targets is None:
        raise ValueError(
            'losses need a run with objects, got one without; set loss=True in run_model'
        )
    arrays: Arrays = {}
    for key, value in run.losses.items():
        weight = model.criterion.losses[term_of(key)].loss_weight if 'loss' in key else 1.0
        for name in golden_terms(key, len(model.decoder.layers)):
            arrays[f'loss/{name}'] = value.detach().numpy() / weight
    terms = (value for key, value in run.losses.items() if 'loss' in key)
    total = sum(terms, start=torch.zeros(()))
    arrays['loss_total'] = total.detach().numpy()
    for prefix, images in model.criterion.match(run.outputs, run.targets).items():
        for i, (query, target) in enumerate(images):
            count = max(run.targets.counts[i], 1)
            for name in golden_matches(prefix):
                arrays[name.format('src', i)] = query.numpy()
                arrays[name.format('tgt', i)] = (target % count).numpy()
    total.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for name, grad in to_official(grads, model).items():
        arrays[f'grad_norm/{name}'] = grad.double().norm().numpy()
        arrays[f'grad_scalar/{name}'] = grad.numpy().squeeze()
    return arrays
