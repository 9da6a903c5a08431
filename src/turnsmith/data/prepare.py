"""Examples to what a `train` step streams: rendered, held to the length limit, every loss of data counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from turnsmith.data.render import Renderer, Train
from turnsmith.data.shorten import DROPPED, Over, shortened
from turnsmith.errors import DataError
from turnsmith.types import Conversation, Example, Rendered, Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is wanted of examples as tokens: which parts, which assistant messages learn, the most tokens of
    one conversation, and what happens to a longer one."""

    parts: tuple[str, ...]
    length: int
    over: Over = "fail"
    train: Train = "assistant"


def prepare(
    examples: Sequence[Example],
    renderer: Renderer,
    parts: Sequence[str],
    *,
    length: int,
    over: Over = "fail",
    max_dropped: float = 0.5,
    train: Train = "assistant",
) -> tuple[list[Rendered], Counter[str]]:
    """The named parts of each example as tokens, and counts of what was cut or dropped, by reason.

    length: most tokens of one conversation; over: what happens to longer ones, see `shorten`. Raises
    DataError naming the example where a part is missing or has nothing to learn from, where `over` is `fail`
    and one is too long, and where more than `max_dropped` would go.
    """
    counts: Counter[str] = Counter()
    terms = Terms(parts=tuple(parts), length=length, over=over, train=train)
    kept = list(rendered(examples, renderer, terms, counts))
    hold_to(max_dropped, kept=len(kept), examples=len(examples), length=length)
    return kept, counts


def rendered(
    examples: Iterable[Example], renderer: Renderer, terms: Terms, counts: Counter[str]
) -> Iterator[Rendered]:
    """The examples as tokens, one at a time; what is cut or dropped is counted into `counts`."""
    for example in examples:
        parts = {part: _render(example, part, renderer, terms.train) for part in terms.parts}
        longest = max(len(tokens) for ones in parts.values() for tokens in ones)
        if longest <= terms.length:
            yield Rendered(example.id, parts, example.values)
        elif terms.over == "fail":
            raise DataError(_too_long(example.id, longest, terms.length))
        elif terms.over == "drop":
            counts[DROPPED] += 1
        else:
            render = partial(renderer.render, train=terms.train, name=example.id)
            left, reason = shortened(example, parts, render, length=terms.length, over=terms.over)
            counts[reason] += 1
            if left is not None:
                yield Rendered(example.id, left, example.values)


def hold_to(max_dropped: float, *, kept: int, examples: int, length: int) -> None:
    """Raise DataError where a larger share of the examples was dropped, or all of them."""
    dropped = examples - kept
    if not kept or dropped > max_dropped * examples:
        raise DataError(
            f"{dropped:,} of {examples:,} examples do not fit into {length} tokens: raise fit.length, or "
            "fit.max_dropped if that is meant"
        )


def _too_long(name: str, tokens: int, limit: int) -> str:
    return (
        f"example {name!r} has {tokens} tokens, the limit is {limit}: raise fit.length, or say in fit.over "
        "what becomes of longer ones: drop (they are left out), oldest (they lose their oldest turns), right "
        "(the turns at the end that do not fit) or left (the tokens at the start)"
    )


def _render(example: Example, part: str, renderer: Renderer, train: Train) -> tuple[Tokens, ...]:
    if part not in example.parts:
        there = ", ".join(example.parts)
        raise DataError(
            f"example {example.id!r} has no part {part!r}, which the objective needs; it has {there}"
        )
    found = example.parts[part]
    conversations: tuple[Conversation, ...] = found if isinstance(found, tuple) else (found,)
    sequences = [renderer.render(one, train, example.id) for one in conversations]
    if len(example.parts) > 1 or isinstance(found, tuple):
        _hold_whole(example, part, sequences)
    tokens = tuple(one for ones in sequences for one in ones)
    for conversation, ones in zip(conversations, sequences, strict=True):
        said = [m for m in conversation.messages if m.role in ("assistant", "text")]
        spoken = [
            m for m in said if m.content.strip() or m.ids
        ]  # a model may say nothing but that it is done
        if not spoken or not any(one.weights.any() for one in ones):
            raise DataError(
                f"example {example.id!r} has no assistant text to learn from in its part {part!r}: remove "
                "the row, or give an assistant message a weight above 0"
            )
    return tokens


def _hold_whole(example: Example, part: str, sequences: Sequence[Sequence[Tokens]]) -> None:
    """Refuse what can only be compared as a whole and comes in pieces."""
    if any(len(ones) > 1 for ones in sequences):
        raise DataError(
            f"part {part!r} of example {example.id!r} becomes {max(map(len, sequences))} sequences, since "
            "this chat template rewrites earlier turns. It is compared as a whole: train on its last turn"
        )
