"""One conversation in the forms of several models that are scored in step, at the same tokens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from turnsmith.errors import RenderError
from turnsmith.types import Tokens


def beside(
    found: Sequence[Tokens],
    forms: Mapping[str, Sequence[Tokens]],
    ends: Mapping[str, Collection[int]],
    name: str,
) -> list[Tokens]:
    """The sequences of a conversation with those of other models beside each.

    ends: of each model, and of the first one under "", the ids that end a reply, of which one may stand for
    another. name: of the example. Raises RenderError where a model has other trained tokens.
    """
    for other, theirs in forms.items():
        if len(theirs) != len(found):
            raise RenderError(
                f"example {name!r} is {len(found)} sequences with the chat template of the model that leads "
                f"and {len(theirs)} with that of {other!r}: they cannot be scored in step"
            )
        for one, its in zip(found, theirs, strict=True):
            _hold_to(one, its, ends[""], ends[other], other, name)
    return [
        replace(one, beside={other: theirs[number] for other, theirs in forms.items()})
        for number, one in enumerate(found)
    ]


def _hold_to(
    one: Tokens, its: Tokens, ends: Collection[int], its_ends: Collection[int], other: str, name: str
) -> None:
    ours, theirs = (tokens.targets[np.flatnonzero(tokens.weights)].tolist() for tokens in (one, its))
    if len(ours) != len(theirs):
        raise RenderError(
            f"example {name!r} has {len(ours)} trained tokens with the chat template of the model that "
            f"leads and {len(theirs)} with that of {other!r}: they cannot be scored in step"
        )
    for place, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their and not (our in ends and their in its_ends):
            raise RenderError(
                f"trained token {place} of example {name!r} is {our} with the chat template of the model "
                f"that leads and {their} with that of {other!r}: they cannot be scored in step"
            )
