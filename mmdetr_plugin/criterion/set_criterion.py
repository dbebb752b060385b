"""The training objective of the whole family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import building, check_arguments, place_of
from ..build import build_slot
from ..ops.precision import no_autocast
from ..registry import MODELS, TASK_UTILS
from ..structures import Outputs, Targets
from .assigner import Assigner
from .distributed import mean_over_ranks
from .losses import Loss
from .matched import Matched, select_rows
from .sources import Matches, Source, collect_sources
from .union import is_united, repeated, unite

Config = Mapping[str, Any]


@MODELS.register_module()
class SetCriterion(nn.Module):
    """Match the queries of every layer with the objects, then classify and locate them.

    DETR, section 3.1. The operations do not depend on the objects: without any in the batch, box losses
    are 0 but still depend on every prediction.

    Args:
        num_classes: labels are below it; a softmax class head has one more column.
        assigner: an Assigner, such as HungarianAssigner.
        losses: configs of the terms by name; a name begins with ``loss``, None switches a term off.
        encoder: train the encoder's proposals, if it makes some.
        branches: prefixes of branches of queries -> ``losses`` of their own and, optionally, an
            ``assigner`` of their own, for the decoder's layers and the encoder's proposals.
        union: names of terms that share one set of pairs: those of all layers and of the proposals of
            the detecting queries together (see :func:`~mmdetr_plugin.criterion.union.unite`). They are
            divided by the number of these pairs.
        terms: further terms, as keyword arguments such as ``loss_cls=dict(...)``; a dictionary without
            ``type`` changes arguments of the term of that name.
    """

    def __init__(
        self,
        num_classes: int,
        assigner: Config | Assigner,
        losses: Mapping[str, Config | nn.Module | None] | None = None,
        encoder: bool = True,
        branches: Mapping[str, Config] | None = None,
        union: Sequence[str] = (),
        **terms: Config | nn.Module | None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.encoder = encoder
        self.assigner = build_assigner(assigner)
        self.losses = build_losses(merge_terms(losses or {}, terms))
        if not set(union) <= set(self.losses):
            raise ValueError(
                f'criterion.union must name terms of the criterion, {sorted(self.losses)}, got '
                f'{sorted(union)}; change it'
            )
        self.union = tuple(union)
        self.branches = nn.ModuleDict(
            {
                prefix: build_terms(f'branches.{prefix}', self.assigner, cfg)
                for prefix, cfg in (branches or {}).items()
            }
        )

    def forward(
        self, outputs: Outputs | Mapping[str, Tensor], targets: Targets
    ) -> dict[str, Tensor]:
        """Weighted losses by name, and scalars to log whose names do not contain ``loss``.

        The last layer's losses have the names of the terms; those of other layers begin with
        ``d0.``, ``d1.``, ..., those of a branch of queries with its prefix (``d0.dn_``, ``dn_``),
        those of the encoder's proposals with ``enc_``.

        Args:
            outputs: of the model, or a dictionary as :meth:`Outputs.tensors` gives it.
            targets: the objects of the B images.

        Raises:
            ValueError: a label outside [0, num_classes), or a class head of another width.
            FloatingPointError: too many steps in a row with non-finite predictions.
        """
        outputs = Outputs.of(outputs)
        losses: dict[str, Tensor] = {}
        with no_autocast(outputs.layers[0].logits.device):
            sources = collect_sources(outputs, targets, self.encoder)
            matches = self._match(sources)
            for source, terms in self._given(sources, matches):
                for name, matched in terms.items():
                    values = self._terms(source).losses[name](matched)
                    prefixes = source.prefixes[len(source.prefixes) - len(values) :]
                    for prefix, value in zip(prefixes, values.unbind(), strict=True):
                        losses[prefix + name] = source.branch.weight * value
            if self.encoder and outputs.proposals is not None:
                own = outputs.proposals.losses
                losses.update({f'enc_{name}': value for name, value in own.items()})
            losses.update(statistics(sources[0], matches[0]))
        return losses

    def _given(
        self, sources: Sequence[Source], matches: Sequence[Matches]
    ) -> list[tuple[Source, dict[str, Matched]]]:
        """For each source, what its terms are given, by their names."""
        united = self._united(sources, matches) if self.union else None
        *counts, shared_count = normalizers(sources, matches, united)
        given: list[tuple[Source, dict[str, Matched]]] = []
        first: dict[str, Matched] = {}
        for source, pairs, count in zip(sources, matches, counts, strict=True):
            own = Matched(source, pairs, count, self.num_classes, first.get('own'))
            shared = own
            if united is not None and is_united(source):
                pairs = repeated(united, len(source.logits))
                shared = Matched(source, pairs, shared_count, self.num_classes, first.get('shared'))
            elif united is not None:
                own.detecting = first['shared']
            first = first or {'own': own, 'shared': shared}
            terms = self._terms(source).losses
            names = [name for name, loss in terms.items() if applies(loss, source)]
            given.append((source, {n: shared if n in self.union else own for n in names}))
        return given

    @staticmethod
    def _united(sources: Sequence[Source], matches: Sequence[Matches]) -> Matches:
        pairs = [p for p in zip(sources, matches, strict=True) if is_united(p[0])]
        return unite([source for source, _ in pairs], [match for _, match in pairs])

    @torch.no_grad()
    def match(
        self, outputs: Outputs | Mapping[str, Tensor], targets: Targets
    ) -> dict[str, list[tuple[Tensor, Tensor]]]:
        """(queries, objects) of each image, sorted by query, by the prefix of their losses; those that
        the terms of ``union`` share by the name ``union``."""
        sources = collect_sources(Outputs.of(outputs), targets, self.encoder)
        matches = self._match(sources)
        found = {
            prefix: match.per_image(layer, source.branch.groups)
            for source, match in zip(sources, matches, strict=True)
            for layer, prefix in enumerate(source.prefixes)
        }
        if self.union:
            found['union'] = self._united(sources, matches).per_image(0)
        return found

    def _match(self, sources: Sequence[Source]) -> list[Matches]:
        """The pairs of every source: known ones, or those that its assigner finds."""
        unknown: dict[Assigner, list[Source]] = {}
        for source in sources:
            if source.branch.pairs is None:
                unknown.setdefault(self._terms(source).assigner, []).append(source)
        matched = {
            assigner: iter(assigner.match(chosen, self.num_classes))
            for assigner, chosen in unknown.items()
        }
        return [
            next(matched[self._terms(source).assigner])
            if source.branch.pairs is None
            else known_matches(source)
            for source in sources
        ]

    def _terms(self, source: Source) -> SetCriterion | BranchTerms:
        """What has the assigner and the losses of a source."""
        prefix = source.branch.prefix
        if prefix not in self.branches:
            return self
        terms = self.branches[prefix]
        assert isinstance(terms, BranchTerms)  # __init__ put no others there
        return terms


class BranchTerms(nn.Module):
    """Assigner and losses of one branch of queries.

    Args:
        default: the assigner where ``assigner`` is None.
    """

    def __init__(
        self,
        default: Assigner,
        losses: Mapping[str, Config | nn.Module | None],
        assigner: Config | None = None,
    ) -> None:
        super().__init__()
        self.assigner = default if assigner is None else build_assigner(assigner)
        self.losses = build_losses(losses)


def build_terms(slot: str, default: Assigner, cfg: Config) -> BranchTerms:
    """The terms of a branch, see :class:`BranchTerms`."""
    place, args = place_of(slot), {'default': default, **cfg}
    check_arguments(BranchTerms, args, place)
    with building(place, BranchTerms.__name__, args):
        return BranchTerms(**args)


def build_assigner(cfg: Config | Assigner) -> Assigner:
    return build_slot(TASK_UTILS, cfg, 'assigner', contract=Assigner)


def merge_terms(
    losses: Mapping[str, Config | nn.Module | None], terms: Mapping[str, Config | nn.Module | None]
) -> dict[str, Config | nn.Module | None]:
    """``losses`` with ``terms`` added; a term without type changes arguments of that of its name."""
    merged = dict(losses)
    for name, term in terms.items():
        base = merged.get(name)
        if isinstance(term, Mapping) and 'type' not in term and isinstance(base, Mapping):
            term = {**base, **term}
        merged[name] = term
    return merged


def build_losses(cfgs: Mapping[str, Config | nn.Module | None]) -> nn.ModuleDict:
    """The terms by name; None leaves one out.

    Raises:
        ValueError: a name does not begin with ``loss``.
    """
    wrong = [name for name in cfgs if not name.startswith('loss')]
    if wrong:
        raise ValueError(
            "names of losses must begin with 'loss' (the sum of these is trained), got "
            f'{wrong}; rename or remove them'
        )
    built = {
        name: build_slot(MODELS, cfg, f'losses.{name}', contract=Loss)
        for name, cfg in cfgs.items()
        if cfg is not None
    }
    return nn.ModuleDict(built)


def known_matches(source: Source) -> Matches:
    """The pairs that the branch itself states, the same in every layer."""
    pairs = source.branch.pairs
    assert pairs is not None  # the caller checks it
    layers = len(source.logits)
    return Matches(
        pairs.query.expand(layers, -1),
        pairs.target.expand(layers, -1),
        pairs.counts,
        pairs.counts,
        source.logits.shape[2],
        max(source.targets.counts, default=0),
    )


def applies(loss: nn.Module, source: Source) -> bool:
    """Whether a term is for these predictions, see :class:`~mmdetr_plugin.criterion.losses.Loss`."""
    reads = getattr(loss, 'reads', ())
    return not source.further or set(reads) <= set(source.extra)


def normalizers(
    sources: Sequence[Source], matches: Sequence[Matches], united: Matches | None = None
) -> list[Tensor]:
    """The number by which the losses of each source are divided; see ``Branch.normalizer``. The last
    one is for the pairs that sources share.

    All means over processes take one exchange, which does not depend on the objects of this process.
    """
    pairs = [trained_pairs(source, match) for source, match in zip(sources, matches, strict=True)]
    counts = [
        number if source.branch.pairs is not None else torch.full_like(number, sum(match.objects))
        for source, match, number in zip(sources, matches, pairs, strict=True)
    ]
    shared = 0 if united is None else sum(united.counts)
    counts.append(torch.full_like(counts[0], shared))
    means = mean_over_ranks(torch.stack(counts)).clamp(min=1).unbind()
    chosen = []
    for source, number, mean in zip(sources, pairs, means):
        if source.branch.normalizer == 'detection':
            mean = means[0] * source.branch.copies
        elif source.branch.normalizer == 'process':
            mean = number.clamp(min=1)
        chosen.append(mean)
    return [*chosen, means[-1]]


def trained_pairs(source: Source, match: Matches) -> Tensor:
    """Number of the pairs that have losses, in a layer of this process."""
    trained = source.branch.trained
    if trained is None:
        return torch.full((), float(sum(match.counts)), device=source.logits.device)
    return trained.flatten()[match.query[0]].sum().float()


@torch.no_grad()
def statistics(source: Source, match: Matches) -> dict[str, Tensor]:
    """Scalars of the last layer that DETR logs in addition to its losses.

    * ``class_error``: percentage of matched queries whose highest column is not their object's
      class; 100 without objects.
    * ``cardinality_error``: mean over images of the difference between the number of objects and
      of queries whose highest column is not the last.
    * ``unmatched_gt``: objects without a query, in a group of queries.
    """
    highest = source.logits[-1].argmax(-1)  # (B, N)
    labels = select_rows(source.targets.padded_labels, match.target[-1:])[0]
    correct = highest.flatten()[match.query[-1]] == labels
    found = (highest != source.logits.shape[-1] - 1).sum(1)
    groups = source.branch.groups
    found = found.unflatten(0, (-1, groups)).sum(1)
    objects = source.targets.is_object.sum(1)[::groups]
    return {
        'class_error': 100 - 100 * correct.sum() / max(correct.numel(), 1),
        'cardinality_error': (found - objects).abs().float().mean(),
        'unmatched_gt': torch.full((), match.unmatched / groups, device=highest.device),
    }
