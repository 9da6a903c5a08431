"""Stages that go on from one point of a dialogue in two ways."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.rollout.converse import Dialogue, Opening, Speaker, converse, remembering
from turnsmith.stages.dialogues import MODEL, USER, opening
from turnsmith.stages.parts import conversation_of
from turnsmith.types import (
    Chat,
    Conversation,
    Example,
    Failure,
    Message,
    Reply,
    Sampling,
    Score,
    Scorer,
)

RANGE = 2**32  # of the seeds that are drawn


@stage("refuel_pairs", chats=("by", "user"), scorers=("reward",), source="arXiv:2410.04612 alg. 1, app. C")
def refuel_pairs(
    data: Sequence[Example],
    *,
    by: Chat,
    user: Chat | None = None,
    reward: Scorer,
    to: str = "text",
    turns: int = 5,
    scored: Literal["drawn", "last"] = "drawn",
    penalty: float | None = None,
    system: str = "",
    profile: str | None = None,
    closing: tuple[str, ...] = (),
    temperature: float = 0.8,
    top_p: float = 1.0,
    max_new: int = 256,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Pairs of answers of `by` at one turn of its own dialogues, with the rewards of what followed each.

    From the opening of each conversation `by` talks to `user`; a second dialogue keeps what was said before
    one of the answers and goes on from there anew. The turn that is scored is drawn evenly, or is the last
    of `turns`, and the turn where the two part evenly from those up to it; neither goes on behind the scored
    turn. Examples get the parts `first` and `second`, up to the answer where they part, which alone learns,
    and the values `return_first` and `return_second`, what the scorer says at the scored turn.

    user: a model or an agent; without one the conversation's own user messages follow, whatever `by` says,
    and turns are at most as many. penalty: the return where an answer from the parting on was cut at
    `max_new` tokens; None to score it as it is. system, profile and closing as in `converse`. A dialogue that
    ends sooner is scored at its end. Left out and counted: conversations without an opening, dialogues that
    end before they part, fail or cannot be judged, and pairs of equal answers. The train step needs the same
    temperature (`fit.temperature`), and says what becomes of long ones (`fit.over`).
    """
    if turns < 1:
        raise UsageError(f"refuel_pairs: turns is {turns}, and at least 1 is needed")
    if user is None and (system or profile):
        raise UsageError("refuel_pairs: without a `user` nobody can be told a `system` text or a `profile`")
    sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
    speakers = {
        USER: Speaker(user or _Log(), system, sampling=sampling, closing=closing),
        MODEL: Speaker(by, sampling=sampling),
    }
    plans: list[_Plan] = []
    for example in data:
        start = opening(example, to, profile)
        if start is None:
            counts["have no opening that could be answered"] += 1
            continue
        most = turns
        if user is None:
            start, logged = _logged(example, to, start)
            most = min(turns, logged)
        last = rng.randrange(most) if scored == "drawn" else most - 1
        plans.append(_Plan(example, start, last, rng.randint(0, last)))
    with remembering(by), nullcontext() if user is None else remembering(user):
        pairs = list(_rolled(speakers, plans, (rng.randrange(RANGE), rng.randrange(RANGE)), counts))
    sides = [side for pair in pairs for side in (pair.first, pair.second)]
    owners = [pair.plan.example for pair in pairs for _ in range(2)]
    scores = iter(_judged(sides, owners, reward, penalty))
    for pair in pairs:
        first, second = next(scores), next(scores)
        if first is None or second is None:
            counts["could not be judged"] += 1
            continue
        parts = {"first": _learnt(pair.first), "second": _learnt(pair.second)}
        values = {**pair.plan.example.values, "return_first": first, "return_second": second}
        meta = {**pair.plan.example.meta, "parted": pair.plan.parted + 1, "scored": pair.plan.last + 1}
        yield Example(parts, values, meta)


@dataclass(frozen=True, slots=True)
class _Plan:
    """One pair to be made. last, parted: numbers of answers, from 0."""

    example: Example
    start: Opening
    last: int
    parted: int


@dataclass(frozen=True, slots=True)
class _Side:
    """A dialogue, and the place in it of the answer that learns."""

    dialogue: Dialogue
    place: int


@dataclass(frozen=True, slots=True)
class _Pair:
    plan: _Plan
    first: _Side
    second: _Side


def _rolled(
    speakers: Mapping[str, Speaker], plans: Sequence[_Plan], seeds: tuple[int, int], counts: Counter[str]
) -> Iterator[_Pair]:
    """Both dialogues of each plan, where both reach the answer and their answers differ."""
    whole = [2 * plan.last + 1 for plan in plans]
    firsts = converse(speakers, [plan.start for plan in plans], turns=whole, seed=seeds[0])
    kept: list[tuple[_Plan, _Side]] = []
    for plan, first in zip(plans, firsts, strict=True):
        answers = first.answers(MODEL)
        if first.ending == "failed":
            counts[f"failed: {first.reason}"] += 1
        elif plan.parted >= len(answers):
            counts[f"ended before they part: {first.ending}"] += 1
        else:
            kept.append((plan, _Side(first, answers[plan.parted])))
    left = [2 * (plan.last - plan.parted) + 1 for plan, _ in kept]
    forks = [side.dialogue.upto(side.place) for _, side in kept]
    seconds = converse(speakers, forks, turns=left, seed=seeds[1])
    for (plan, first), second in zip(kept, seconds, strict=True):
        if second.ending == "failed":
            counts[f"failed: {second.reason}"] += 1
        elif _said(first.dialogue, first.place) == _said(second, first.place):
            counts["pairs of equal answers"] += 1
        else:
            yield _Pair(plan, first, _Side(second, first.place))


def _said(dialogue: Dialogue, place: int) -> tuple[int, ...] | str:
    message = dialogue.said.messages[place]
    return message.content if message.ids is None else message.ids


def _judged(
    sides: Sequence[_Side], owners: Sequence[Example], reward: Scorer, penalty: float | None
) -> list[Score]:
    """What the scorer says of each dialogue at its last answer, or the penalty."""
    whole = [one.dialogue.before(one.dialogue.answers(MODEL)[-1] + 1) for one in sides]
    scores = reward([one.view(MODEL) for one in whole], owners)
    if penalty is None:
        return scores
    cut = [
        any(place in one.cut for place in one.answers(MODEL) if place >= side.place)
        for one, side in zip(whole, sides, strict=True)
    ]
    return [penalty if was_cut else score for score, was_cut in zip(scores, cut, strict=True)]


def _learnt(side: _Side) -> Conversation:
    """The dialogue up to the answer, as the model sees it; the answer alone learns."""
    *before, answer = side.dialogue.before(side.place + 1).view(MODEL).messages
    given = (replace(one, weight=0.0) for one in before)
    return Conversation((*given, replace(answer, weight=1.0)))


# ------------------------------------------------------------------------------- logged user turns


def _logged(example: Example, to: str, start: Opening) -> tuple[Opening, int]:
    """The opening with all that the user says told to it alone, and how many turns there are."""
    texts = [one.content for one in conversation_of(example, to).messages if one.role == "user"]
    before = sum(one.role == "user" for one in start.said.messages)
    told = Message("system", json.dumps(texts))
    return replace(start, private={**start.private, USER: (told,)}), len(texts) - before + 1


class _Log:
    """A user who says what the conversation's user said, whatever comes in between."""

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        return [self._next(one) for one in conversations]

    def _next(self, seen: Conversation) -> Reply:
        texts: list[str] = json.loads(seen.messages[0].content)
        said = sum(message.role == "assistant" for message in seen.messages)
        return Reply.scripted(texts[said])
