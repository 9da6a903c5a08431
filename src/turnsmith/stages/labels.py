"""Stages for few labels and many texts: who is labelled, how a model is asked, and what it would label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import exp
from random import Random
from typing import Literal

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Message, Scorer

PART = "labels"  # a prompt with the words of each class
TARGET = "target"  # the value with the probability of each class
CLASS = "class"  # of the metadata: the number of the class in truth, where it is known
THINGS = ("film", "book", "play", "meal", "song", "walk", "show", "talk", "game", "trip")
LIKED = ("a delight", "warm and wise", "pure joy", "a gem", "funny and kind", "a triumph")
DISLIKED = ("a bore", "cold and dull", "pure waste", "a mess", "tired and mean", "a failure")


@stage("opinions")
def opinions(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` short texts that are pleased (label 1) or displeased (label 0) with a thing, by turns."""
    yield from data
    for number in range(count):
        label = number % 2
        said = rng.choice(LIKED if label else DISLIKED)
        text = f"the {rng.choice(THINGS)} was {said}, and so was the {rng.choice(THINGS)}."
        parts = {"text": Conversation((Message("text", text),))}
        yield Example(parts, {}, {"id": f"opinions-{number}", "label": label})


@stage("few")
def few(
    data: Sequence[Example],
    *,
    count: int,
    side: Literal["drawn", "rest"] = "drawn",
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Keep `count` examples that are drawn at random, or the rest, without those that equal a drawn one.

    What is drawn depends on the seed of the `data` step and the stage's place in it alone: two steps that are
    alike in these, one for each side, share nothing. A larger count draws the same examples, and more.
    """
    if not 1 <= count <= len(data):
        raise UsageError(f"the stage 'few' draws {count} of {len(data):,} examples: 1 <= count <= all")
    order = list(range(len(data)))
    rng.shuffle(order)
    drawn = set(order[:count])
    if side == "drawn":
        yield from (example for place, example in enumerate(data) if place in drawn)
        return
    known = {repr(data[place].parts) for place in drawn}
    for place, example in enumerate(data):
        if place not in drawn and repr(example.parts) in known:
            counts["say the same as one that is drawn"] += 1
        elif place not in drawn:
            yield example


@stage("labelled", source="arXiv:2110.06274 sec. 2; arXiv:2001.07676 sec. 3")
def labelled(
    data: Sequence[Example],
    *,
    words: dict[str, str],
    template: str = "{text} It was",
    key: str = "label",
    counts: Counter[str],
) -> Iterator[Example]:
    """Make of each text, or pair of texts, a question whose answers are the words of the classes.

    words: of each label its words, e.g. `{"0": terrible, "1": great}`; their order numbers the classes.
    template: what stands before the words, with `{text}` and, of pairs, `{second}`: parts of the example; a
    blank and the words follow. key: of the metadata, where the label stands; examples without one are kept,
    and have no `target` to learn. Examples get the part `labels`, plain text with one conversation for each
    class, of which the words count, and the value `target`, 1 for the example's class and 0 for others.
    Classes that no example has are counted. Raises UsageError where two labels have the same words, DataError
    where an example has a label that is not among `words`.
    """
    if len(words) < 2 or len(set(words.values())) < len(words) or not all(map(str.strip, words.values())):
        raise UsageError(f"labelled: two labels or more need words that differ, not {words}")
    classes = list(words)
    missing = dict.fromkeys(classes)
    for example in data:
        prompt = Message("text", _filled(template, example), weight=0.0)
        asked = tuple(Conversation((prompt, Message("text", f" {word.strip()}"))) for word in words.values())
        label = example.meta.get(key)
        if label is None:
            yield Example({PART: asked}, {}, example.meta)
            continue
        if str(label) not in words:
            raise DataError(
                f"example {example.id!r} has the {key} {label!r}, and `words` are of {', '.join(classes)}"
            )
        missing.pop(str(label), None)
        number = classes.index(str(label))
        target = tuple(float(one == number) for one in range(len(classes)))
        yield Example({PART: asked}, {TARGET: target}, {**example.meta, CLASS: number})
    for one in missing:
        counts[f"class without an example: {words[one]}"] += 1


@stage("spoken")
def spoken(
    data: Sequence[Example], *, words: dict[str, str], template: str = "{text}", key: str = "label"
) -> Iterator[Example]:
    """Make of each text with a label a chat: the text is asked, and the words of its label are the reply.

    words, template and key: as of `labelled`. Raises DataError where an example has a label that is not among
    `words`, or none.
    """
    for example in data:
        label = str(example.meta.get(key))
        if label not in words:
            there = ", ".join(words)
            raise DataError(f"example {example.id!r} has the {key} {label!r}, and `words` are of {there}")
        asked, told = Message("user", _filled(template, example)), Message("assistant", words[label])
        yield Example({"text": Conversation((asked, told))}, {}, example.meta)


@stage("pseudo_labelled", scorers=("by",), source="arXiv:2110.06274 sec. 3.3")
def pseudo_labelled(
    data: Sequence[Example],
    *,
    by: Scorer,
    labels: Literal["soft", "hard"] = "soft",
    temperature: float = 1.0,
    least: float = 0.0,
    counts: Counter[str],
) -> Iterator[Example]:
    """Give each example as `target` how likely its answers are, in place of what it may have.

    by: scores each answer, `{likelihood: {by: TEACHER}}`; the target is the softmax of the scores, divided by
    `temperature`, or, `hard`, 1 for the likeliest, of equal ones the first. least: what is less likely than
    this even for the likeliest class is left out. How many there are of each class is counted, and how many
    differ from the class in truth, where that is known.
    """
    if temperature <= 0 or not 0 <= least <= 1:
        raise UsageError(f"pseudo_labelled: temperature is {temperature} and least {least}: above 0; 0 to 1")
    asked = [(example, one) for example in data for one in _answers(example)]
    scores = iter(by([one for _, one in asked], [example for example, _ in asked]))
    for example in data:
        own = [next(scores) for _ in _answers(example)]
        known = [one for one in own if one is not None]
        if len(known) < len(own):
            counts["could not be judged"] += 1
            continue
        target = _softmax([one / temperature for one in known])
        best = target.index(max(target))
        if target[best] < least:
            counts["less sure than `least`"] += 1
            continue
        counts[f"are of the class{_answers(example)[best].messages[-1].content!r}"] += 1
        if CLASS in example.meta and example.meta[CLASS] != best:
            counts["are of another class in truth"] += 1
        if labels == "hard":
            target = [float(number == best) for number in range(len(target))]
        yield replace(example, values={**example.values, TARGET: tuple(target)})


@stage("mislabelled")
def mislabelled(
    data: Sequence[Example], *, share: float, rng: Random, counts: Counter[str]
) -> Iterator[Example]:
    """Exchange, in this share of the examples, the target of the likeliest class for that of another one: an
    experiment with a teacher who is known to err."""
    if not 0 <= share <= 1:
        raise UsageError(f"mislabelled: share is {share}, and has to be between 0 and 1")
    chosen = set(rng.sample(range(len(data)), round(share * len(data))))
    for place, example in enumerate(data):
        if place not in chosen:
            yield example
            continue
        target = list(targets(example))
        best = target.index(max(target))
        other = rng.choice([number for number in range(len(target)) if number != best])
        target[best], target[other] = target[other], target[best]
        counts["labels exchanged"] += 1
        yield replace(example, values={**example.values, TARGET: tuple(target)})


def targets(example: Example) -> tuple[float, ...]:
    """How likely each class is said to be; DataError where nothing is said."""
    found = example.values.get(TARGET)
    if not isinstance(found, tuple) or len(found) < 2:
        raise DataError(
            f"example {example.id!r} has no target for each of its classes: put it through `labelled` or "
            "`pseudo_labelled`"
        )
    return found


def _answers(example: Example) -> tuple[Conversation, ...]:
    found = example.parts.get(PART)
    if not isinstance(found, tuple):
        raise DataError(
            f"example {example.id!r} has no answers to judge: put it through the stage `labelled`"
        )
    return found


def _filled(template: str, example: Example) -> str:
    texts = {
        name: part.messages[0].content.strip()
        for name, part in example.parts.items()
        if isinstance(part, Conversation) and part.messages
    }
    try:
        return template.format(**texts)
    except (KeyError, IndexError) as error:
        raise DataError(
            f"example {example.id!r} has no text for {error} of the template; it has {', '.join(texts)}"
        ) from None


def _softmax(scores: Sequence[float]) -> list[float]:
    """Shares of exp(score).

    >>> _softmax([0.0, 0.0])
    [0.5, 0.5]
    """
    above = [exp(one - max(scores)) for one in scores]
    return [one / sum(above) for one in above]
