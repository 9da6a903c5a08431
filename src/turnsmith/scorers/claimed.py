"""Judging answers by what they claim: each claim by itself, and an answer by the mean of its claims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from turnsmith.data.claims import entropy, sentences, shares, stated
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import scorer
from turnsmith.sample.chat import samples
from turnsmith.types import Chat, Conversation, Example, Failure, Message, Reply, Sampling, Score

APART = (
    "Take the text apart into short statements, one a line, each of which says one thing and can be "
    "understood by itself.\n\n{text}"
)
SUPPORTED = "{source}\n\nStatement: {claim}\nDoes the text above support the statement? Say yes or no."
ASKED = (
    "Here is a statement: {claim}\nWrite the question whose answer is the fact that it states, and the "
    "answer in a few words on the next line."
)
GREEDY = Sampling(temperature=0, max_new=256)


@scorer("supported", chats=("splitter", "judge"), source="arXiv:2305.14251; arXiv:2311.08401 sec. 3.1")
class Supported:
    """The share of what the last reply claims that a source supports (FactScore; FactTune-FS).

    source: the key of the metadata under which the text stands, e.g. an article on what was asked. splitter:
    a chat that takes a reply apart into claims; by rule each sentence is one. judge: a chat that is shown
    source and claim, and says yes or no; by rule a claim is supported where one sentence of the source has
    all of its words. A claim on which the judge says neither does not count. None where there is no claim,
    as in a refusal: never 1. Raises DataError where an example has no such text.
    """

    def __init__(
        self, *, source: str = "source", splitter: Chat | None = None, judge: Chat | None = None
    ) -> None:
        self.source, self.splitter, self.judge = source, splitter, judge

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        claims = claims_of(conversations, self.splitter)
        texts = [_source(example, self.source) for example in examples]
        asked = [(text, claim) for text, own in zip(texts, claims, strict=True) for claim in own]
        return averaged(self._judged(asked), claims)

    def _judged(self, asked: Sequence[tuple[str, str]]) -> list[Score]:
        if self.judge is None:
            return [float(stated(claim, text)) for text, claim in asked]
        said = [_question(SUPPORTED.format(source=text, claim=claim)) for text, claim in asked]
        replies = self.judge(said, sampling=GREEDY) if said else []
        return [_verdict(reply) for reply in replies]


@scorer("consistent", chats=("splitter", "asker", "by"), source="arXiv:2311.08401 sec. 3.2")
class Consistent:
    """How sure the model `by` is of what the last reply claims, without any source (FactTune-MC).

    splitter: as of `supported`. asker: a chat that turns a claim into a question for its fact, on the first
    line, and its answer on the second; an agent may do it by rule (`rewritten`). `by` answers each question k
    times; what it says up to the end of the line is put into classes of like answers. measure: of their
    shares the greatest (`most`), the sum of their squares (`squares`), minus their entropy in nats
    (`entropy`), or the share of those that are like the claim's own answer (`own`). A claim that cannot be
    asked or answered does not count. None where there is no claim that does.
    """

    def __init__(
        self,
        *,
        by: Chat,
        asker: Chat,
        splitter: Chat | None = None,
        k: int = 20,
        measure: Literal["most", "squares", "entropy", "own"] = "most",
        temperature: float = 1.0,
        top_p: float = 0.9,
        max_new: int = 15,
    ) -> None:
        if k < 1:
            raise UsageError(f"consistent: k is {k}: each question needs one answer at least")
        self.by, self.asker, self.splitter, self.k, self.measure = by, asker, splitter, k, measure
        self.sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)

    def __call__(self, conversations: Sequence[Conversation], examples: Sequence[Example]) -> list[Score]:
        claims = claims_of(conversations, self.splitter)
        found = self._sure(list(dict.fromkeys(claim for own in claims for claim in own)))
        return averaged([found[claim] for own in claims for claim in own], claims)

    def _sure(self, claims: Sequence[str]) -> dict[str, Score]:
        """Of each claim; None where it cannot be told. Claims with one question have the same answers."""
        said = [_question(ASKED.format(claim=claim)) for claim in claims]
        replies = self.asker(said, sampling=GREEDY) if said else []
        asked = {
            claim: _lines(reply.message.content)
            for claim, reply in zip(claims, replies, strict=True)
            if isinstance(reply, Reply) and _lines(reply.message.content)
        }
        questions = list(dict.fromkeys(lines[0] for lines in asked.values()))
        drawn = samples(self.by, [_question(one) for one in questions], self.k, sampling=self.sampling)
        answers = {one: _said(replies) for one, replies in zip(questions, drawn, strict=True)}
        return {
            claim: self._measured(answers[asked[claim][0]], asked[claim][1:]) if claim in asked else None
            for claim in claims
        }

    def _measured(self, answers: Sequence[str], own: Sequence[str]) -> Score:
        found, like = shares(answers, own[0] if own else None)
        if not found or (self.measure == "own" and not own):
            return None
        measures = {
            "most": max(found),
            "squares": sum(share**2 for share in found),
            "entropy": -entropy(found),
            "own": like,
        }
        return measures[self.measure]


# ------------------------------------------------------------------------------------------ details


def claims_of(conversations: Sequence[Conversation], splitter: Chat | None) -> list[list[str]]:
    """What the last message of each conversation claims, where the assistant says it; nothing where the
    splitter fails."""
    said = [one.messages[-1] if one.messages else Message("user", "") for one in conversations]
    texts = [one.content if one.role == "assistant" else "" for one in said]
    if splitter is None:
        return [sentences(text) for text in texts]
    asked = [at for at, text in enumerate(texts) if text.strip()]
    replies = splitter([_question(APART.format(text=texts[at])) for at in asked], sampling=GREEDY)
    found: list[list[str]] = [[] for _ in texts]
    for at, reply in zip(asked, replies, strict=True):
        found[at] = sentences(reply.message.content) if isinstance(reply, Reply) else []
    return found


def averaged(scores: Sequence[Score], claims: Sequence[Sequence[str]]) -> list[Score]:
    """The mean over the claims of each answer that could be judged; None where there is none.

    >>> averaged([1.0, None, 0.0, None], [["a", "b", "c"], [], ["d"]])
    [0.5, None, None]
    """
    rest = iter(scores)
    found: list[Score] = []
    for own in claims:
        known = [one for one in (next(rest) for _ in own) if one is not None]
        found.append(sum(known) / len(known) if known else None)
    return found


def _question(text: str) -> Conversation:
    return Conversation((Message("user", text),))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _said(replies: Sequence[Reply | Failure]) -> list[str]:
    """The first line of each reply that came."""
    return [
        reply.message.content.lstrip().partition("\n")[0] for reply in replies if isinstance(reply, Reply)
    ]


def _verdict(reply: Reply | Failure) -> Score:
    word = reply.message.content.strip().lower() if isinstance(reply, Reply) else ""
    return 1.0 if word.startswith("yes") else 0.0 if word.startswith("no") else None


def _source(example: Example, key: str) -> str:
    found = example.meta.get(key)
    if not isinstance(found, str) or not found.strip():
        raise DataError(
            f"example {example.id!r}: {key!r} of its metadata is {found!r:.60}: `supported` needs the text "
            "that claims are checked against"
        )
    return found
