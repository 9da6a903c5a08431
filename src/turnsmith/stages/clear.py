"""Curating a noisy instruction set with the models that are tuned on it: filter, then correct (CLEAR)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import exp
from random import Random
from statistics import median
from typing import Literal

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Chat, Conversation, Example, Failure, Json, Message, Sampling, Scorer

VALUE = "confidence"
WRONG = "wrong"  # value: 1 where the reply is not its own
TRUTH = "truth"  # of the metadata: the reply in truth, where it is known
COMPARE = (
    "Here is a conversation, and two replies to what was said last.\n\n{asked}\n\n"
    "Reply A: {first}\n\nReply B: {second}\n\nWhich reply is better? Say A or B."
)
CHOICE = re.compile(r"\W*([AB])\b")


@stage("mismatched")
def mismatched(
    data: Sequence[Example], *, share: float, part: str = "text", rng: Random, counts: Counter[str]
) -> Iterator[Example]:
    """Give this share of the examples the last reply of another one that says something else: planted noise.

    Such an example has the value `wrong` 1, the others 0; what was the reply stands in the metadata as
    `truth`. Raises UsageError for a share that is none, or where all replies say the same.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"mismatched: share is {share}, and has to be between 0 and 1")
    said = [_reply(example, part).content for example in data]
    if share and len(set(said)) < 2:
        raise UsageError("mismatched: all replies say the same, so none can stand for another")
    chosen = set(rng.sample(range(len(data)), round(share * len(data))))
    for place, example in enumerate(data):
        text, meta = conversation_of(example, part), {**example.meta, TRUTH: said[place]}
        values = {**example.values, WRONG: float(place in chosen)}
        if place in chosen:
            other = rng.choice([one for one in said if one != said[place]])
            text = text.upto(-1).then(Message("assistant", other))
            counts["replies of another"] += 1
        yield Example({**example.parts, part: text}, values, meta)


@stage("confidence", scorers=("by",), source="arXiv:2403.12776 sec. 3")
def confidence(
    data: Sequence[Example], *, by: Scorer, part: str = "text", counts: Counter[str]
) -> Iterator[Example]:
    """Give each example the value `confidence`, what `by` says of its last reply; prompts and order stay.

    by: `{confidence: {by: MODEL}}`, or, cheaper and within the reach of small models, the likelihood of the
    reply for a model that was tuned on other rows. What could not be judged is left out and counted.
    """
    scores = by([conversation_of(example, part) for example in data], data)
    for example, score in zip(data, scores, strict=True):
        if score is None:
            counts["could not be judged"] += 1
        else:
            yield replace(example, values={**example.values, VALUE: float(score)})


@stage("confident", source="arXiv:2403.12776 sec. 3.1, Auto-Filter")
def confident(
    data: Sequence[Example],
    *,
    least: float | None = None,
    side: Literal["kept", "left"] = "kept",
) -> Iterator[Example]:
    """Keep the examples whose `confidence` is at least `least`, or, `left`, the others.

    least: None takes the median of the set, so that half of it and what equals the median is kept; what was
    taken stands in the metadata as `threshold`. To filter the same set again, give that number: a median of
    what is left halves it once more. Raises UsageError where nothing would be kept.
    """
    threshold = _threshold(data, least)
    kept = [example for example in data if _confidence(example) >= threshold]
    if not kept:
        most = max(map(_confidence, data), default=None)
        raise UsageError(f"confident: nothing has a confidence of {threshold:g} or more; the most is {most}")
    for example in data:
        if (_confidence(example) >= threshold) == (side == "kept"):
            yield replace(example, meta={**example.meta, "threshold": threshold})


@stage(
    "corrected", chats=("by", "judge"), scorers=("sure",), source="arXiv:2403.12776 sec. 3.2, Auto-Correct"
)
def corrected(
    data: Sequence[Example],
    *,
    by: Chat,
    sure: Scorer,
    judge: Chat | None = None,
    above: float = 0.8,
    least: float | None = None,
    part: str = "text",
    temperature: float = 0.0,
    max_new: int = 128,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Replace replies by those of the tuned model `by` where these are better with a confidence over `above`.

    data: all of the noisy set, with the value `confidence`. judge: who is asked which reply is better, the
    two in an order that is drawn; `sure` then scores the verdict as a reply of the judge, `{confidence: {by:
    JUDGE}}`. Without a judge the replies themselves are scored, and the confidence that the new one is better
    is the logistic function of the difference: what Bradley and Terry make of two log-likelihoods, and what
    models can do that are too small to judge in words. least: as of `confident`; what has less and is not
    corrected is left out. Equal replies are no replacement.
    A reply that failed, and one without a verdict, is counted and replaces nothing.
    Examples get in their metadata `action` (`keep` or `replace`), and where there is a verdict `candidate`
    and `verdict_confidence`. Every example is counted once, as kept, replaced or dropped, and where the truth
    is known (`mismatched`), how many replacements are right and how many right replies were spoilt.
    """
    if not 0 <= above <= 1:
        raise UsageError(f"corrected: above is {above}, and has to be between 0 and 1")
    threshold = _threshold(data, least)
    texts = [conversation_of(example, part) for example in data]
    old = [_reply(example, part).content.strip() for example in data]
    sampling = Sampling(temperature=temperature, max_new=max_new)
    replies = by([one.upto(-1) for one in texts], sampling=sampling)
    counts.update(f"could not be answered: {one.reason}" for one in replies if isinstance(one, Failure))
    new = ["" if isinstance(reply, Failure) else reply.message.content.strip() for reply in replies]
    places = [place for place, said in enumerate(new) if said not in ("", old[place])]
    mended = [text.upto(-1).then(Message("assistant", said)) for text, said in zip(texts, new, strict=True)]
    pairs = [(texts[place], mended[place]) for place in places]
    rows = [data[at] for at in places]
    verdicts = _scored(sure, rows, pairs) if judge is None else _asked(judge, sure, rows, pairs, rng, counts)
    better = dict(zip(places, verdicts, strict=True))
    if missing := verdicts.count(None):
        counts["replies without a verdict, which replace nothing"] += missing
    for place, example in enumerate(data):
        verdict = better.get(place)
        meta: dict[str, Json] = dict(example.meta)
        if verdict is not None:
            meta |= {"candidate": new[place], "verdict_confidence": verdict}
        truth = example.meta.get(TRUTH)
        was_right = isinstance(truth, str) and truth.strip() == old[place]
        if verdict is not None and verdict > above:
            counts["replaced"] += 1
            is_right = isinstance(truth, str) and truth.strip() == new[place]
            counts.update({"replaced by what is right": 1} if is_right else {})
            counts.update({"right ones that were replaced": 1} if was_right else {})
            yield replace(example.replaced(**{part: mended[place]}), meta={**meta, "action": "replace"})
        elif _confidence(example) >= threshold:
            counts["kept"] += 1
            counts.update({"kept that are wrong": 1} if truth is not None and not was_right else {})
            yield replace(example, meta={**meta, "action": "keep"})
        else:
            counts["dropped"] += 1
            counts.update({"right ones that were dropped": 1} if was_right else {})


def _scored(
    sure: Scorer, rows: Sequence[Example], pairs: Sequence[tuple[Conversation, Conversation]]
) -> list[float | None]:
    """How sure it is that the second reply of each pair is better than the first, by their scores."""
    flat = [one for pair in pairs for one in pair]
    scores = list(sure(flat, [row for row in rows for _ in range(2)]))
    found: list[float | None] = []
    for old, new in zip(scores[::2], scores[1::2], strict=True):
        found.append(None if old is None or new is None else _logistic(new - old))
    return found


def _asked(
    judge: Chat,
    sure: Scorer,
    rows: Sequence[Example],
    pairs: Sequence[tuple[Conversation, Conversation]],
    rng: Random,
    counts: Counter[str],
) -> list[float | None]:
    """The confidence of the verdict where it is for the second reply; 0 where it is for the first, or for
    neither."""
    swapped = [rng.random() < 0.5 for _ in pairs]
    asked = [_compared(*pair, swap) for pair, swap in zip(pairs, swapped, strict=True)]
    replies = judge(asked, sampling=Sampling(temperature=0, max_new=8)) if asked else []
    found: list[float | None] = [None] * len(pairs)
    given: list[tuple[int, Conversation]] = []
    for place, (reply, swap) in enumerate(zip(replies, swapped, strict=True)):
        if isinstance(reply, Failure):
            counts[f"verdicts that did not come: {reply.reason}"] += 1
            continue
        choice = CHOICE.match(reply.message.content)
        found[place] = 0.0
        if choice is None:
            counts["verdicts that name neither reply"] += 1
        elif (choice.group(1) == "A") == swap:  # for the new one, which stands first where they are swapped
            given.append((place, asked[place].then(Message("assistant", choice.group(1)))))
    scores = sure([one for _, one in given], [rows[place] for place, _ in given])
    for (place, _), score in zip(given, scores, strict=True):
        found[place] = score
    return found


def _compared(old: Conversation, new: Conversation, swap: bool) -> Conversation:
    asked = "\n".join(f"{one.role}: {one.content}" for one in old.messages[:-1])
    first, second = (new, old) if swap else (old, new)
    text = COMPARE.format(asked=asked, first=first.messages[-1].content, second=second.messages[-1].content)
    return Conversation((Message("user", text),))


def _threshold(data: Sequence[Example], least: float | None) -> float:
    return median(map(_confidence, data)) if least is None and data else least or 0.0


def _confidence(example: Example) -> float:
    found = example.values.get(VALUE)
    if not isinstance(found, int | float):
        raise DataError(f"example {example.id!r} has no confidence: put it through the stage `confidence`")
    return found


def _reply(example: Example, part: str) -> Message:
    messages = conversation_of(example, part).messages
    if not messages or messages[-1].role != "assistant":
        raise DataError(
            f"example {example.id!r} does not end with a reply in {part!r}: there is nothing to judge"
        )
    return messages[-1]


def _logistic(number: float) -> float:
    """1 / (1 + exp(-number)).

    >>> _logistic(0.0), _logistic(-1000.0)
    (0.5, 0.0)
    """
    return 1 / (1 + exp(-number)) if number >= 0 else (low := exp(number)) / (1 + low)
