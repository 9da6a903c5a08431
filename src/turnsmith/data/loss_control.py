"""What the loss weighs, in every spelling: of a message, of stretches of it, of all messages of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from turnsmith.data.cells import flag, unpacked
from turnsmith.errors import DataError
from turnsmith.types import Conversation, Span, is_list

# How others say what a message's loss weighs: OpenAI, axolotl, ms-swift (two), verl (two).
WEIGHT = ("weight", "train", "loss", "loss_scale", "loss_mask", "trainable")
STRETCHES = ("spans", "train_detail")  # ours: [start, end, weight], the end left out; axolotl's
OF_ROW = ("loss_mask", "mask_history")  # columns of LLaMA-Factory


def weight_of(value: Mapping[str, Any], where: str) -> float | None:
    """What the loss on a message weighs, however it is said; None where nothing is.

    Raises DataError where it is no number of at least 0, and where two ways of saying it differ.
    """
    found: dict[str, float] = {}
    for key in (key for key in WEIGHT if value.get(key) is not None):
        weight = value[key]
        flag = isinstance(weight, bool)
        number = isinstance(weight, int | float) and (not flag or key != "weight")
        if not number or not 0 <= weight < math.inf:
            raise DataError(f"{where}: the {key} must be a number of at least 0, not {weight!r}")
        found[key] = float(weight)
    if len(set(found.values())) > 1:
        said = " and ".join(f"{key} {weight:g}" for key, weight in found.items())
        raise DataError(f"{where} says {said}: which of them counts?")
    return next(iter(found.values()), None)


def stretches_of(value: Mapping[str, Any], where: str) -> tuple[Span, ...]:
    """Stretches of characters that weigh on their own: axolotl's `train_detail`, whose last character is
    included, and our `spans`, whose end is not."""
    found: list[Span] = []
    for detail in value.get("train_detail") or ():
        try:
            start, stop, train = detail["begin_offset"], detail["end_offset"] + 1, detail["train"]
        except (KeyError, TypeError):
            raise DataError(
                f"{where}: train_detail needs begin_offset, end_offset and train, not {detail!r:.60}"
            ) from None
        found.append(Span(start, stop, float(train)))
    for span in value.get("spans") or ():
        if not isinstance(span, list | tuple) or not all(isinstance(one, int | float) for one in span):
            raise DataError(f"{where}: a span must be [start, end, weight], not {span!r:.60}")
        found.append(Span(*span))
    return tuple(found)


def weighed(given: Conversation, row: Mapping[str, Any], column: str, *, ahead: int = 0) -> Conversation:
    """The conversation with what the whole row says of it, as LLaMA-Factory does.

    `loss_mask` is a list with a 0 or 1 for each message of the column, and `mask_history` leaves the last
    answer alone to learn. ahead: messages in front that do not stand in the column.
    """
    messages = list(given.messages)
    mask: Any = unpacked(row.get("loss_mask"))
    if mask not in (None, ""):
        if not is_list(mask) or len(mask) != len(messages) - ahead:
            count = f"{len(messages) - ahead} {column}"
            raise DataError(f"loss_mask must have a number for each of the {count}, not {mask!r:.60}")
        for place, one in enumerate(mask, start=ahead):
            both = {"loss_mask": one, "weight": messages[place].weight}
            weight = weight_of(both, f"{column}[{place - ahead}]")
            messages[place] = replace(messages[place], weight=weight)
    if row.get("mask_history") not in (None, "") and flag(row["mask_history"], "mask_history"):
        answers = [place for place, message in enumerate(messages) if message.role == "assistant"]
        for place in answers[:-1]:
            messages[place] = replace(messages[place], weight=0.0)
    return replace(given, messages=tuple(messages))


def silent(given: Conversation, stop: int | None = None) -> Conversation:
    """The same messages, of which those before `stop`, or all, do not learn unless they say so themselves."""
    stop = len(given.messages) if stop is None else stop
    quiet = [replace(m, weight=0.0 if m.weight is None else m.weight) for m in given.messages[:stop]]
    return replace(given, messages=(*quiet, *given.messages[stop:]))
