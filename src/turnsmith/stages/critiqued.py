"""Critiques behind answers: what a model that judges learns to write first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from turnsmith.errors import DataError
from turnsmith.registry import stage
from turnsmith.scorers.critic import asked
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Json, Message, Part, is_list

PAIR = ("chosen", "rejected")


@stage("critiqued", source="arXiv:2502.10391 sec. 3; Kwai-YuanQi/MM-RLHF, dpo_pairs.jsonl")
def critiqued(data: Sequence[Example], *, counts: Counter[str]) -> Iterator[Example]:
    """Put behind each answer the request to judge it and the critique that the metadata have of it.

    A pair has them as `chosen_reason` and `rejected_reason`, several `replies` as a list `reasons`. Of a pair
    the value `critiqued` is 1, or 0 where one of the two is missing: then it stays as it is and is counted;
    the value `tied` is 1 where the metadata say `is_tie`, else 0. Raises DataError where what stands there is
    no text, or replies have not as many.
    """
    for example in data:
        several = example.parts.get("replies")
        if isinstance(several, tuple):
            yield example.replaced(replies=_all(example, several))
        else:
            yield _both(example, counts)


def _both(example: Example, counts: Counter[str]) -> Example:
    ends = [conversation_of(example, part) for part in PAIR]
    reasons = [_text(example, f"{part}_reason", example.meta.get(f"{part}_reason")) for part in PAIR]
    tied = float(example.meta.get("is_tie") is True)
    if None in reasons:
        counts["pairs without two critiques"] += 1
        return replace(example, values={**example.values, "tied": tied, "critiqued": 0.0})
    parts: dict[str, Part] = {
        part: asked(end).then(Message("assistant", reason or ""))
        for part, end, reason in zip(PAIR, ends, reasons, strict=True)
    }
    return replace(example, parts=parts, values={**example.values, "tied": tied, "critiqued": 1.0})


def _all(example: Example, replies: tuple[Conversation, ...]) -> tuple[Conversation, ...]:
    found: Json = example.meta.get("reasons")
    if not is_list(found) or len(found) != len(replies):
        raise DataError(
            f"example {example.id!r}: 'reasons' of its metadata are no list of one for each reply"
        )
    reasons = [_text(example, "reasons", one) for one in found]
    if None in reasons:
        raise DataError(f"example {example.id!r}: of its 'reasons' one is missing")
    return tuple(
        asked(one).then(Message("assistant", reason or ""))
        for one, reason in zip(replies, reasons, strict=True)
    )


def _text(example: Example, key: str, found: Json) -> str | None:
    """The text; None where there is none."""
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise DataError(f"example {example.id!r}: {key!r} of its metadata holds {found!r:.60}, and no text")
    return found
