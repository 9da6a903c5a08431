"""Examples of more tokens than fit: what is left of them under each policy.

All conversations of an example lose the same, or the example goes: what is left must still be comparable.
Only `longest` looks at each for itself, as encoders read pairs of a context and a reply.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from turnsmith.types import Conversation, Example, Message, Tokens

Over = Literal["fail", "drop", "oldest", "left", "right", "longest"]
Cut = Literal["oldest", "left", "right", "longest"]
Parts: TypeAlias = "dict[str, tuple[Tokens, ...]]"
Render: TypeAlias = Callable[[Conversation], Sequence[Tokens]]

DROPPED = "dropped: too long"
NO_TURN = "dropped: not one whole turn fits"
APART = "dropped: too long, and its parts cannot be cut alike"
REASONS: dict[Cut, str] = {
    "oldest": "cut: lost their oldest turns",
    "left": "cut: lost the tokens at their start",
    "right": "cut after the last whole turn that fits",
    "longest": "cut in the longer of context and reply",
}
CUT_TEXT = "cut to the limit: raw text"


def shortened(
    example: Example, parts: Parts, render: Render, *, length: int, over: Cut
) -> tuple[Parts | None, str]:
    """What is left of the tokens of an example that is too long, None where it is dropped, and the reason to
    count it under.

    oldest: as few whole turns as possible go, from the front on, up to a user's message; the system messages
    at the start stay, and what is left is rendered anew. left: tokens go from the front; what is left of the
    turn that is cut into is not learnt. right: what follows the last whole turn that fits goes. Raw text is
    cut anywhere, at the front or (right) at the end. longest: see `longest_first`. length: the most tokens of
    one sequence.
    render: of one conversation.
    """
    conversations = _conversations(example, parts)
    raw = all(message.role == "text" for one in conversations for message in one.messages)
    several = len(conversations) > 1
    if over == "longest":
        left = {part: tuple(longest_first(one, length) for one in ones) for part, ones in parts.items()}
    elif over == "right":
        left = None if several else _from_right(parts, length, raw)
    elif over == "left" or raw:
        left = _from_left(parts, length, raw, several)
    else:
        left = _without_oldest(example, parts, render, length)
    learnt = left is not None and all(tokens.weights.any() for ones in left.values() for tokens in ones)
    if left is None or not learnt or not all(left.values()):
        return None, APART if several else NO_TURN
    return left, CUT_TEXT if raw else REASONS[over]


def longest_first(tokens: Tokens, limit: int) -> Tokens:
    """The tokens, of which as many as are too many go from the longer of the context and the reply.

    The reply is what learns, from its first token that does to its last; what stands before it is the
    context, which loses its oldest tokens behind the first one, and the reply loses its last ones before the
    one that ends it. Token by token the longer side loses one, of equally long ones the context: a reply is
    never gone. Of one that was cut the end is read and not learnt. Raises ValueError where the limit leaves
    no token of each side beside the marks: 5 it has to be.
    Source: the pairs of BERT (arXiv:1810.04805), whose code drops the last tokens of a context.

    >>> one = np.arange(8, dtype=np.int32)
    >>> longest_first(Tokens(one, one, (one > 4).astype(np.float32), one), 6).inputs.tolist()
    [0, 3, 4, 5, 6, 7]
    """
    over = len(tokens) - limit
    if over <= 0:
        return tokens
    if limit < 5:
        raise ValueError(
            f"{limit} tokens hold no context and reply with the marks around them: give 5 or more"
        )
    trained = np.flatnonzero(tokens.weights)
    if not len(trained):
        return tokens.cut(limit)
    # The first token and the one before the reply are marks, and so is the last one that learns.
    start, stop = int(trained[0]), int(trained[-1]) + 1
    context, reply = max(0, start - 2), stop - 1 - start
    rest = limit - (len(tokens) - context - reply)
    said = min(reply, max(rest - context, rest - rest // 2))
    kept = rest - said
    places = np.r_[0:1, 1 + context - kept : start + said, stop - 1 : len(tokens)]
    weights = tokens.weights[places].copy()
    if said < reply:
        weights[1 + kept + 1 + said :] = 0.0
    return replace(
        tokens,
        inputs=tokens.inputs[places],
        targets=tokens.targets[places],
        weights=weights,
        turns=tokens.turns[places],
        extras={name: values[places] for name, values in tokens.extras.items()},
    )


def _conversations(example: Example, parts: Mapping[str, object]) -> list[Conversation]:
    found = [example.parts[part] for part in parts]
    return [one for part in found for one in (part if isinstance(part, tuple) else (part,))]


def _from_right(parts: Parts, length: int, raw: bool) -> Parts:
    """Of a template that rewrites earlier turns, the sequences that nothing is left of go."""
    cuts = {
        part: [tokens.cut(length) if raw else cut_to_turns(tokens, length) for tokens in ones]
        for part, ones in parts.items()
    }
    return {part: tuple(cut for cut in ones if cut is not None) for part, ones in cuts.items()}


def _from_left(parts: Parts, length: int, raw: bool, several: bool) -> Parts | None:
    sequences = [tokens for ones in parts.values() for tokens in ones]
    if not several:  # of a template that rewrites earlier turns, the sequences that nothing is left of go
        cuts = [_after(tokens, len(tokens) - length, raw) for tokens in sequences]
        return {part: tuple(cut for cut in cuts if cut.weights.any()) for part in parts}
    start = max(map(len, sequences)) - length
    if len({tokens.inputs[:start].tobytes() for tokens in sequences}) > 1:
        return None
    return {part: tuple(_after(tokens, start, raw) for tokens in ones) for part, ones in parts.items()}


def _after(tokens: Tokens, start: int, raw: bool) -> Tokens:
    """The tokens from `start` on. Of a turn whose beginning is gone, the rest is read and not learnt."""
    if start <= 0:
        return tokens
    weights = tokens.weights[start:].copy()
    weights[:1] = 0.0  # nothing predicts the first token
    if not raw:
        weights[tokens.turns[start:] == tokens.turns[start - 1]] = 0.0
    return replace(
        tokens,
        inputs=tokens.inputs[start:],
        targets=tokens.targets[start:],
        weights=weights,
        turns=tokens.turns[start:],
        extras={name: values[start:] for name, values in tokens.extras.items()},
    )


def _without_oldest(example: Example, parts: Parts, render: Render, length: int) -> Parts | None:
    """The example rendered anew from the first message of a user on from which all of it fits."""
    shared = _shared([one.messages for one in _conversations(example, parts)])
    head = next((i for i, message in enumerate(shared) if message.role != "system"), len(shared))
    starts = [i for i, message in enumerate(shared) if i > head and message.role == "user"]
    made: dict[int, Parts] = {}

    def fits(start: int) -> bool:
        made[start] = {part: _rendered_from(example, part, head, start, render) for part in parts}
        return max(len(tokens) for ones in made[start].values() for tokens in ones) <= length

    place = bisect_left(starts, True, key=fits)
    return made[starts[place]] if place < len(starts) else None


def _rendered_from(example: Example, part: str, head: int, start: int, render: Render) -> tuple[Tokens, ...]:
    cut = [
        replace(one, messages=(*one.messages[:head], *one.messages[start:]))
        for one in _conversations(example, {part: None})
    ]
    return tuple(tokens for one in cut for tokens in render(one))


def _shared(conversations: Sequence[tuple[Message, ...]]) -> tuple[Message, ...]:
    """The messages that all of them start with."""
    first = conversations[0]
    count = next(
        (
            i
            for i, ones in enumerate(zip(*conversations, strict=False))
            if any(one != ones[0] for one in ones)
        ),
        min(map(len, conversations)),
    )
    return first[:count]


def cut_to_turns(tokens: Tokens, limit: int) -> Tokens | None:
    """The tokens, cut after the last trained turn that ends within `limit`; None where not one does."""
    if len(tokens) <= limit:
        return tokens
    trained = np.flatnonzero(tokens.weights)
    ends = [
        i + 1
        for i, after in zip(trained, [*trained[1:], -1], strict=True)
        if after < 0 or tokens.turns[after] != tokens.turns[i]
    ]
    fitting = [int(end) for end in ends if end <= limit]
    return tokens.cut(fitting[-1]) if fitting else None
