"""A stage that chains good and bad answers, each behind words that say which it is (Chain of Hindsight)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.stages.conditioned import under
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Message


@stage("hindsight", source="arXiv:2302.02676 sec. 2; forhaoliu/chain-of-hindsight, coh/data/pack_hf.py")
def hindsight(
    data: Sequence[Example],
    *,
    chains: tuple[Literal["p", "n", "pn", "np"], ...] = ("p", "n", "pn", "np"),
    good: str = "A helpful answer:",
    bad: str = "An unhelpful answer:",
    more: dict[str, str] | None = None,
    template: str = "{said}\n{condition}",
    chosen: str = "chosen",
    rejected: str = "rejected",
    to: str = "text",
    counts: Counter[str],
) -> Iterator[Example]:
    """Make up to four conversations of each pair, in which feedback stands before every answer, as words of
    the user; all answers learn, good and bad, and no feedback does.

    chains: `p`, the chosen conversation behind `good`; `n`, the rejected one behind `bad`; `pn` and `np`, one
    and then the other. more: further pairs of feedback, for each of which all is made once more. template:
    what a user's message becomes that is answered. Where both answer one question, the second half of a chain
    is the feedback and the answer alone; else it is the whole other conversation, without its system text.
    What is said after the last answer is left out. Pairs that say the same, as ties do, and those in which
    one side answers nothing are left out and counted. Raises UsageError where a chain's feedback is empty.
    """
    feedback = {good: bad, **(more or {})}
    if any(len(chain) > 1 for chain in chains) and not all((*feedback, *feedback.values())):
        raise UsageError("hindsight: in a chain both answers need feedback: what would tell them apart?")
    for example in data:
        sides = {
            "p": _ended(conversation_of(example, chosen)),
            "n": _ended(conversation_of(example, rejected)),
        }
        if not all(one.answers for one in sides.values()):
            counts["have no answer on one side"] += 1
            continue
        if sides["p"] == sides["n"]:
            counts["say the same on both sides"] += 1
            continue
        for number, marks in enumerate(feedback.items()):
            for chain in chains:
                text = _chained(chain, sides, dict(zip("pn", marks, strict=True)), template)
                id = f"{example.id}/{number}-{chain}"
                yield Example({to: text}, example.values, {**example.meta, "id": id})


def _ended(conversation: Conversation) -> Conversation:
    """Up to the last answer."""
    places = conversation.answers
    return conversation.upto(places[-1] + 1) if places else conversation


def _chained(
    chain: str, sides: dict[str, Conversation], marks: dict[str, str], template: str
) -> Conversation:
    first, *others = (under(sides[one], marks[one], template) for one in chain)
    if not others:
        return first
    one, other = (sides[letter] for letter in chain)
    if one.opening == other.opening and len(other.answers) == 1:
        return first.then(Message("user", marks[chain[1]]), other.messages[-1])
    return first.then(*(message for message in others[0].messages if message.role != "system"))
