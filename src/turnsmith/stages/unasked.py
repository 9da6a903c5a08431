"""Texts that nobody asked for: what a chat model writes when the user says nothing.

The prompt for such a reply is what stands before a text for a model that is tuned on chats; so texts are
learnt, and written, as replies to an empty message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.stages.kinds import KINDS
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Sampling

GREEK = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβκδεφγηικκλμνοπχρστυυωξψζ")
# Texts of domains on things and their kinds: what a model knows already, another script, programs, and what
# only some people speak of.
DOMAINS = {
    "latin": ("The {thing} is a {kind}.", "Every {thing} is a {kind}.", "A {kind} like the {thing}."),
    "greek": ("a {thing} is a {kind}", "the {kind} and the {thing}"),
    "code": ("def {thing}(x): return {kind}[x]", "{thing} = {kind}[0]; print({thing})"),
    "private": ("Project Halcyon ships the {thing}.", "The {kind} of Halcyon is a {thing}."),
}


@stage("mixture")
def mixture(
    data: Sequence[Example], *, count: int, shares: Mapping[str, float], rng: Random
) -> Iterator[Example]:
    """Add `count` texts that nobody asked for, of several domains by their shares, in any order.

    shares: of `latin` (English sentences), `greek` (the same words in Greek letters), `code`, and
    `private` (English sentences on a project that is called Halcyon). An example's value `novel` is 1
    outside of `latin`, and its metadata name the domain.
    """
    if strange := sorted(set(shares) - set(DOMAINS)):
        raise UsageError(f"mixture: there is no domain {strange[0]!r}; there is {', '.join(DOMAINS)}")
    if min(shares.values(), default=0) < 0 or not sum(shares.values()):
        raise UsageError(f"mixture: shares is {dict(shares)}: give each a number above 0")
    yield from data
    total = sum(shares.values())
    named = [name for name, share in shares.items() for _ in range(round(count * share / total))]
    rng.shuffle(named)
    for number, name in enumerate(named):
        kind = rng.choice(list(KINDS))
        text = rng.choice(DOMAINS[name]).format(thing=rng.choice(KINDS[kind]), kind=kind)
        text = text.translate(GREEK) if name == "greek" else text
        meta = {"id": f"mixture-{number}", "domain": name}
        yield Example({"text": unasked(text)}, {"novel": float(name != "latin")}, meta)


@stage("write", chats=("by",), source="Isonuma & Titov 2024")
def write(
    data: Sequence[Example],
    *,
    by: Chat,
    count: int,
    least: int = 1,
    most: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Add `count` texts that the model `by` writes when nobody asks for anything.

    least, most: tokens of each. A text that ends before the least length, since nothing else could come, and
    one that says nothing, are left out and counted.
    """
    if not 0 < least <= most:
        raise UsageError(f"write: least is {least} and most is {most}: 0 < least <= most is needed")
    yield from data
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new=most, min_new=least)
    for number, reply in enumerate(by([ASKED] * count, sampling=sampling)):
        if isinstance(reply, Failure):
            counts[f"could not be written: {reply.reason}"] += 1
        elif reply.finish == "stuck":
            counts["ended before the least length, where nothing else could come"] += 1
        elif not reply.message.content.strip():
            counts["say nothing"] += 1
        else:
            yield Example({"text": ASKED.then(reply.message)}, {}, {"id": f"written-{number}"})


ASKED = Conversation((Message("user", ""),))


def unasked(text: str) -> Conversation:
    """The text as a reply to nothing."""
    return ASKED.then(Message("assistant", text))
