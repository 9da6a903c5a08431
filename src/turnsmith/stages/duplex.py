"""Chats in slices of time, in which the user may speak while the model does (duplex models).

Every slice is a message of the user and one of the assistant. Who is silent says nothing: an empty
message, of which the stop token is all that is written. So silence is one token that every chat model
has, and the paper's <idle> needs no row of its own in the vocabulary; what a user types can never stand
for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import NamedTuple

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.sample.live import IDLE
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Sampling

STOPS, RESUMES = (
    "stops",
    "resumes",
)  # of the metadata: at which slices the assistant is interrupted, or goes on
INTERRUPTIONS = (
    "Wait.",
    "Hold on a second.",
    "Sorry to cut in.",
    "One moment, please.",
    "No, listen.",
    "Stop.",
)
DISPLEASED = (
    "That does not help me.",
    "I am not happy with that answer.",
    "No, try again.",
    "That is not what I wanted to hear.",
    "Could you answer that differently?",
    "Please think again.",
)
RESETS = ("Let us talk about something else.", "Never mind that.", "Forget it, something new.", "")


class Turn(NamedTuple):
    """What a user said, and the answer to it."""

    asked: str
    answer: str


class Slice(NamedTuple):
    """What is said in one slice of time; IDLE for silence."""

    user: str
    assistant: str


SILENCE = Slice(IDLE, IDLE)


class Laid(NamedTuple):
    """A dialogue in slices. stops: at which the user begins to speak before the answer is over; resumes: at
    which an answer goes on that was interrupted."""

    slices: list[Slice]
    stops: list[int]
    resumes: list[int]


@stage("duplex", source="arXiv:2406.15718 sec. 3; thunlp/duplex-model")
def duplex(
    data: Sequence[Example],
    *,
    kinds: Mapping[str, float] | None = None,
    least: int = 4,
    most: int = 6,
    words: int = 7,
    part: str = "text",
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Lay each dialogue out in slices: of `least` to `most` words of the user's, and `words` of the
    assistant's.

    While a user's message is under way the assistant is silent, and while it speaks the user is. kinds:
    the shares of `basic`; `terminated`, an answer that the next message cuts off, whose rest is dropped;
    `resumed`, one that a side question cuts off, and which goes on when that is answered; `reset`, where
    the next dialogue of the data begins in the middle of an answer; `interwoven`, the turns of this
    dialogue and the next, each in their order. None: basic alone. words: stand for the paper's 10 tokens.
    Blanks between words become one. At the end there is a slice in which nobody speaks, which is how a model
    learns that it is done. Metadata have the `kind`, and `stops` and `resumes`, the numbers of
    the slices at which an answer is cut off or goes on. A dialogue that is too short for its kind is laid
    out as `basic` and counted; one in which user and assistant do not take turns is left out and counted.
    Answers that are asked for anew come from the stage `asked_again`, which stands before this one.
    """
    shares = dict(kinds or {"basic": 1.0})
    if strange := sorted(set(shares) - set(KINDS)):
        raise UsageError(f"duplex: there is no kind {strange[0]!r}; there is {', '.join(KINDS)}")
    if min(shares.values()) < 0 or not sum(shares.values()) or not 0 < least <= most or words < 1:
        raise UsageError(
            f"duplex: kinds {shares}, least {least}, most {most}, words {words}: give shares of which one is "
            "above 0, 0 < least <= most, and words from 1 on"
        )
    dialogues: list[tuple[Example, list[Turn]]] = []
    for example in data:
        turns = _turns(conversation_of(example, part))
        if turns:
            dialogues.append((example, turns))
        else:
            counts["do not take turns"] += 1
    cut = _Cut(rng, least, most, words)
    for place, (example, turns) in enumerate(dialogues):
        _, other = dialogues[(place + 1) % len(dialogues)]
        (kind,) = rng.choices(list(shares), list(shares.values()))
        laid = KINDS[kind](cut, turns, other)
        if laid is None:
            counts[f"too short to be {kind}, and laid out as basic"] += 1
            kind, laid = "basic", cut.basic(turns, other)
        system = [one for one in conversation_of(example, part).messages if one.role == "system"]
        meta = {**example.meta, "kind": kind, STOPS: list(laid.stops), RESUMES: list(laid.resumes)}
        slices = laid.slices if laid.slices[-1] == SILENCE else [*laid.slices, SILENCE]
        yield Example({part: conversation(slices, system)}, example.values, meta)


@stage("asked_again", chats=("by",), source="arXiv:2406.15718 sec. 3")
def asked_again(
    data: Sequence[Example],
    *,
    by: Chat,
    part: str = "text",
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_new: int = 128,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Have the user ask any one question of each dialogue again, in displeasure; `by` answers it anew.

    What follows the first answer then follows the new one; metadata say the `kind`, regenerated. A dialogue
    in which user and assistant do not take turns, and one whose question cannot be answered, or is answered
    by nothing, is left out and counted. temperature to max_new: of the draws.
    """
    asked: list[tuple[Example, Conversation, Conversation]] = []
    for example in data:
        whole = conversation_of(example, part)
        turns = _turns(whole)
        if not turns:
            counts["do not take turns"] += 1
            continue
        before = len(whole.messages) - sum(one.role != "system" for one in whole.messages)
        place = before + 2 * rng.randrange(len(turns))
        again = Message("user", f"{rng.choice(DISPLEASED)} {whole.messages[place].content}")
        rest = replace(whole, messages=whole.messages[place + 2 :])
        asked.append((example, whole.upto(place + 2).then(again), rest))
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
    for (example, question, rest), reply in zip(
        asked, by([question for _, question, _ in asked], sampling=sampling), strict=True
    ):
        if isinstance(reply, Failure):
            counts[f"could not be answered: {reply.reason}"] += 1
        elif not reply.message.content.strip():
            counts["were answered by nothing"] += 1
        else:
            said = question.then(reply.message)
            text = replace(said, messages=(*said.messages, *rest.messages))
            yield Example(
                {**example.parts, part: text}, example.values, {**example.meta, "kind": "regenerated"}
            )


def conversation(slices: Sequence[Slice], system: Sequence[Message] = ()) -> Conversation:
    """Slices as messages by turns."""
    said = [
        message
        for one in slices
        for message in (Message("user", one.user), Message("assistant", one.assistant))
    ]
    return Conversation((*system, *said))


class _Cut:
    """Cuts messages into slices, and answers short."""

    def __init__(self, rng: Random, least: int, most: int, words: int) -> None:
        self.rng, self.least, self.most, self.words = rng, least, most, words

    def heard(self, text: str) -> list[Slice]:
        """A user's message, while the assistant is silent; one silent slice where it says nothing."""
        left, found = text.split(), list[Slice]()
        while left:
            size = self.rng.randint(self.least, self.most)
            found.append(Slice(" ".join(left[:size]), IDLE))
            left = left[size:]
        return found or [SILENCE]

    def said(self, text: str) -> list[Slice]:
        """An answer, while the user is silent."""
        words = text.split()
        return [
            Slice(IDLE, " ".join(words[start : start + self.words]))
            for start in range(0, len(words), self.words)
        ]

    def turn(self, turn: Turn) -> list[Slice]:
        return [*self.heard(turn.asked), *(self.said(turn.answer) if turn.asked.strip() else [])]

    def basic(self, turns: Sequence[Turn], other: Sequence[Turn]) -> Laid:
        return Laid([one for turn in turns for one in self.turn(turn)], [], [])

    def terminated(self, turns: Sequence[Turn], other: Sequence[Turn]) -> Laid | None:
        if len(turns) < 2:
            return None
        at = self.rng.randrange(len(turns) - 1)
        before = self._broken(turns, at)
        asked, answer = turns[at + 1]
        follow = [Turn(f"{self.rng.choice(INTERRUPTIONS)} {asked}", answer), *turns[at + 2 :]]
        return Laid([*before, *self.basic(follow, other).slices], [len(before)], [])

    def reset(self, turns: Sequence[Turn], other: Sequence[Turn]) -> Laid | None:
        before = self._broken(turns, self.rng.randrange(len(turns)))
        asked, answer = other[0]
        follow = [Turn(f"{self.rng.choice(RESETS)} {asked}".strip(), answer), *other[1:]]
        return Laid([*before, *self.basic(follow, turns).slices], [len(before)], [])

    def resumed(self, turns: Sequence[Turn], other: Sequence[Turn]) -> Laid | None:
        long = [at for at in range(len(turns) - 1) if len(turns[at].answer.split()) > self.words]
        if not long:
            return None
        at = self.rng.choice(long)
        answer = self.said(turns[at].answer)
        place = self.rng.randrange(1, len(answer))
        slices = [*self.basic(turns[:at], other).slices, *self.heard(turns[at].asked), *answer[:place]]
        stop = len(slices)
        slices += self.turn(turns[at + 1])
        resume = len(slices)
        slices += [*answer[place:], *self.basic(turns[at + 2 :], other).slices]
        return Laid(slices, [stop], [resume])

    def interwoven(self, turns: Sequence[Turn], other: Sequence[Turn]) -> Laid | None:
        mine = sorted(self.rng.sample(range(len(turns) + len(other)), len(turns)))
        ours, theirs = iter(turns), iter(other)
        mixed = [next(ours if at in mine else theirs) for at in range(len(turns) + len(other))]
        return self.basic(mixed, other)

    def _broken(self, turns: Sequence[Turn], at: int) -> list[Slice]:
        """All up to turn `at`, whose answer is cut off anywhere, even before it begins."""
        answer = self.said(turns[at].answer)
        return [
            *self.basic(turns[:at], turns).slices,
            *self.heard(turns[at].asked),
            *answer[: self.rng.randrange(max(len(answer), 1))],
        ]


KINDS: Mapping[str, Callable[[_Cut, Sequence[Turn], Sequence[Turn]], Laid | None]] = {
    "basic": _Cut.basic,
    "terminated": _Cut.terminated,
    "resumed": _Cut.resumed,
    "reset": _Cut.reset,
    "interwoven": _Cut.interwoven,
}


def _turns(dialogue: Conversation) -> list[Turn]:
    """The turns of user and assistant; none where they do not take turns. A question at the end that nobody
    answers is left out."""
    said = [one for one in dialogue.messages if one.role != "system"]
    roles = [one.role for one in said]
    if any(role != ("user", "assistant")[at % 2] for at, role in enumerate(roles)):
        return []
    return [Turn(one.content, other.content) for one, other in zip(said[::2], said[1::2], strict=False)]
