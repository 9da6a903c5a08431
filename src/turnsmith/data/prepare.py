"""Examples to what a `train` step streams: rendered, held to the length limit, every loss of data counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from turnsmith.data.render import Renderer, Train, cut_to_turns
from turnsmith.errors import DataError
from turnsmith.types import Conversation, Example, Rendered, Tokens

Over = Literal["cut", "drop", "error"]
CUT = "cut after the last whole turn that fits"
CUT_TEXT = "cut to the limit: raw text"
DROPPED = "dropped: too long"
NO_TURN = "dropped: not one whole turn fits"


def prepare(
    examples: Sequence[Example],
    renderer: Renderer,
    parts: Sequence[str],
    *,
    length: int,
    over: Over = "cut",
    max_dropped: float = 0.5,
    train: Train = "assistant",
) -> tuple[list[Rendered], Counter[str]]:
    """The named parts of each example as tokens, and counts of what was cut or dropped, by reason.

    length: most tokens of one conversation. An example of several parts is dropped whole, never cut: its
    parts would no longer be comparable. Raises DataError naming the example where a part is missing or has
    nothing to learn from, where `over` is `error` and one is too long, and where more than `max_dropped`
    would go.
    """
    counts: Counter[str] = Counter()
    kept: list[Rendered] = []
    for example in examples:
        rendered = {part: _render(example, part, renderer, train) for part in parts}
        longest = max(len(tokens) for ones in rendered.values() for tokens in ones)
        if longest > length:
            if over == "error":
                raise DataError(
                    f"example {example.id!r} has {longest} tokens, the limit is {length}: raise "
                    "fit.length, or set fit.over to cut or drop"
                )
            raw = _is_raw(example, parts)
            shorter = _shorten(rendered, length, raw) if over == "cut" else None
            cut = CUT_TEXT if raw else CUT
            counts[cut if shorter else NO_TURN if over == "cut" else DROPPED] += 1
            if shorter is None:
                continue
            rendered = shorter
        kept.append(Rendered(example.id, rendered, example.values))
    dropped = len(examples) - len(kept)
    if not kept or dropped > max_dropped * len(examples):
        raise DataError(
            f"{dropped} of {len(examples)} examples do not fit into {length} tokens: raise fit.length, or "
            "fit.max_dropped if that is meant"
        )
    return kept, counts


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


def _is_raw(example: Example, parts: Sequence[str]) -> bool:
    """Whether it is one conversation of raw text, which may be cut anywhere."""
    found = example.parts[parts[0]]
    return isinstance(found, Conversation) and all(message.role == "text" for message in found.messages)


def _shorten(
    rendered: dict[str, tuple[Tokens, ...]], length: int, raw: bool
) -> dict[str, tuple[Tokens, ...]] | None:
    if len(rendered) > 1 or any(len(ones) > 1 for ones in rendered.values()):
        return None
    ((part, (tokens,)),) = rendered.items()
    cut = tokens.cut(length) if raw else cut_to_turns(tokens, length)
    return {part: (cut,)} if cut is not None and cut.weights.any() else None
