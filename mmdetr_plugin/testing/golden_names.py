"""The names that the cases have for our losses and matches; official codes spell them differently."""

from __future__ import annotations

from typing import NamedTuple

TERMS = {
    'loss_cls': ('loss_ce', 'loss_vfl', 'loss_mal'),
    'loss_iou': ('loss_giou',),
}
"""Our losses -> the official names, where these differ."""

FURTHER = {'initial': 'pre'}
"""Names of further predictions of the head -> the official ones."""
UNION = 'union'
"""What the pairs that losses share are called in ``SetCriterion.match``."""


class BranchNames(NamedTuple):
    """The cases' names for the arrays of a branch of queries.

    In the suffixes of losses, {} is the number of the layer with a ``_`` before it, or nothing for the
    last layer; {n} is the number in any case.
    """

    pred: str
    aux: str
    match: str
    loss_suffixes: tuple[str, ...]


BRANCHES = {
    '': BranchNames('pred', 'aux', '', ('{}', '_aux{n}')),
    'dn_': BranchNames('dn_pred', 'dn_aux', 'dn_', ('_dn{}', '_dn{n}')),
    'many_': BranchNames('o2m', 'o2m_aux', 'o2m_', ('{}_one2many',)),
    'enc_': BranchNames('enc', 'enc_aux', 'enc_', ('_enc', '_enc_0', '_interm', '_aux{n}')),
}


def term_of(key: str) -> str:
    """``loss_cls`` of ``d0.dn_loss_cls``."""
    return key[key.index('loss') :]


def _split(prefix: str) -> tuple[str, str]:
    """Number of the layer, '' for the last, or official name of a further prediction, and prefix of the
    branch, of what losses begin with."""
    layer, _, branch = prefix.rpartition('.')
    return FURTHER.get(layer, layer.removeprefix('d')), branch


def golden_terms(key: str, layers: int) -> list[str]:
    """The names that cases may use for one of our losses.

    Args:
        layers: number of decoder layers. RT-DETR numbers the last layer of noised queries as the
            others, and the encoder as one more auxiliary layer.
    """
    if 'loss' not in key:
        return [key]
    term = term_of(key)
    layer, branch = _split(key.removesuffix(term))
    after, number = f'_{layer}' if layer else '', f'_{layer or layers - 1}'
    suffixes = {x.format(after, n=number) for x in BRANCHES[branch].loss_suffixes}
    if not branch and not layer:
        suffixes = {''}
    return [name + suffix for name in TERMS.get(term, (term,)) for suffix in suffixes]


def golden_matches(prefix: str) -> list[str]:
    """The names that cases may use for the matches of losses with this prefix; the placeholders are
    the side (src, tgt) and the image."""
    if prefix == UNION:
        return ['go_match_{}_{}']
    layer, branch = _split(prefix)
    if layer in FURTHER.values():
        return [f'{BRANCHES[branch].match}{layer}_match_{{}}_{{}}']
    aux = [f'aux{layer}_match', f'match_aux{layer}'] if layer else ['match']
    return [f'{BRANCHES[branch].match}{name}_{{}}_{{}}' for name in aux]
