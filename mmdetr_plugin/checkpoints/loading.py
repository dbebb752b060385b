"""What happens to weights between a checkpoint file and a model's ``load_state_dict``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from .convert import _check_names, from_official, unwrap
from .layouts import is_official
from .names import IGNORED, official_names

COCO_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""COCO's category ids that are in use, in the order of its 80 classes."""


def accept_official(
    model: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """Hook before loading: weights in the official layout are renamed in place.

    So ``load_from`` takes a published file as it is, also with its weights under ``model``, and
    that of a detector where a mask head is still to be trained.
    """
    if prefix:
        return
    weights = unwrap(state_dict)
    if not is_official(weights):
        refuse_another_model(weights, model)
        return
    converted = from_official(pick_coco_classes(weights, model), model, masks=False)
    state_dict.clear()
    state_dict.update(converted)


def pick_coco_classes(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Class rows by COCO's category id, 0 to 90, -> those of the 80 classes, in their order.

    Published files number the classes by COCO's ids, of which 80 are in use; data sets here count
    from 0. Done where the file has 91 classes and the model 80; a last column stays the last.
    """
    out, target = dict(state), model.state_dict()
    for ours, names in official_names(model, model.layout).items():
        if model.num_classes != len(COCO_IDS) or not ours.startswith('head.class_branches.'):
            continue
        extra = len(target[ours]) - len(COCO_IDS)
        rows = [*COCO_IDS, *range(91, 91 + extra)]
        out.update({n: state[n][rows] for n in names if n in state and len(state[n]) == 91 + extra})
    return out


def refuse_another_model(names: Iterable[str], model: nn.Module) -> None:
    """Raise ValueError for a checkpoint in our layout that both lacks and has names of its own.

    MMEngine would only log them and go on with what is left. A file that lacks a part of the model
    (a mask head still to be trained) or has one more is let through.
    """
    names = [name for name in names if not name.endswith(IGNORED)]
    known = [name for name in model.state_dict() if not name.endswith(IGNORED)]
    missing, others = sorted(set(known) - set(names)), sorted(set(names) - set(known))
    if missing and others:
        _check_names(missing, others, set(known), set(names), 'checkpoint of this model')
