"""Examples to what a `train` step streams: rendered, held to the length limit, every loss of data counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from turnsmith.data.render import Renderer, Train
from turnsmith.data.shorten import DROPPED, Over, shortened
from turnsmith.errors import DataError
from turnsmith.types import Conversation, Example, Rendered, Tokens, Value

CROSSING = "tokens masked: across the border of two weights"
NO_CALL = "dropped: nothing in it learns"


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
        parts = {part: _render(example, part, renderer, terms) for part in terms.parts}
        if not any(tokens.weights.any() for ones in parts.values() for tokens in ones):
            counts[NO_CALL] += 1
            continue
        longest = max(len(tokens) for ones in parts.values() for tokens in ones)
        if longest <= terms.length:
            yield _counted(Rendered(example.id, parts, _values(example, parts)), counts)
        elif terms.over == "fail":
            raise DataError(_too_long(example.id, longest, terms.length))
        elif terms.over == "drop":
            counts[DROPPED] += 1
        else:
            render = partial(renderer.render, train=terms.train, name=example.id)
            left, reason = shortened(example, parts, render, length=terms.length, over=terms.over)
            counts[reason] += 1
            if left is not None:
                yield _counted(Rendered(example.id, left, _values(example, left)), counts)


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
        "(the turns at the end that do not fit), left (the tokens at the start) or longest (tokens of the "
        "longer of context and reply)"
    )


def _counted(made: Rendered, counts: Counter[str]) -> Rendered:
    crossing = sum(tokens.crossing for ones in made.parts.values() for tokens in ones)
    counts.update({CROSSING: crossing} if crossing else {})
    return made


def _render(example: Example, part: str, renderer: Renderer, terms: Terms) -> tuple[Tokens, ...]:
    if part not in example.parts:
        there = ", ".join(example.parts)
        raise DataError(
            f"example {example.id!r} has no part {part!r}, which the objective needs; it has {there}"
        )
    found = example.parts[part]
    conversations: tuple[Conversation, ...] = found if isinstance(found, tuple) else (found,)
    sequences = [renderer.render(one, terms.train, example.id) for one in conversations]
    if len(terms.parts) > 1:
        _hold_whole(example, part, sequences)
    for conversation, ones in zip(conversations, sequences, strict=True):
        if terms.train != "calls" and not _teaches(conversation, ones, terms.train):
            who = "user" if terms.train == "user" else "assistant"
            raise DataError(
                f"example {example.id!r} has no {who} text to learn from in its part {part!r}: remove the "
                f"row, or give one of its messages a weight above 0"
            )
    return tuple(one for ones in sequences for one in ones)


def _values(example: Example, parts: Mapping[str, tuple[Tokens, ...]]) -> dict[str, Value]:
    """The example's values; those of several conversations only where a part that has several is rendered.

    Raises DataError where there are not as many numbers as sequences.
    """
    several = [part for part in parts if isinstance(example.parts[part], tuple)]
    values = {name: one for name, one in example.values.items() if several or not isinstance(one, tuple)}
    for name, numbers in ((name, one) for name, one in values.items() if isinstance(one, tuple)):
        for part in several:
            if len(parts[part]) != len(numbers):
                raise DataError(
                    f"example {example.id!r} has {len(numbers)} numbers as {name!r}, and its part "
                    f"{part!r} has {len(parts[part])} sequences: there must be one number for each"
                )
    return values


def _teaches(conversation: Conversation, sequences: Sequence[Tokens], train: Train) -> bool:
    """Whether anything learns, and more of it than that a model may say nothing and be done."""
    who = ("user", "text") if train == "user" else ("assistant", "text")
    said = [
        m
        for m in conversation.messages
        if m.role in who and (m.content.strip() or m.ids or m.calls or m.thinking)
    ]
    return bool(said) and any(one.weights.any() for one in sequences)


def _hold_whole(example: Example, part: str, sequences: Sequence[Sequence[Tokens]]) -> None:
    """Refuse what can only be compared as a whole and comes in pieces."""
    if any(len(ones) > 1 for ones in sequences):
        raise DataError(
            f"part {part!r} of example {example.id!r} becomes {max(map(len, sequences))} sequences, since "
            "this chat template rewrites earlier turns. It is compared as a whole: train on its last turn"
        )
