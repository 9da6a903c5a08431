"""Stages that tell a model, before it answers, what class of answer is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of, number_of
from turnsmith.types import Conversation, Example, Message


@stage("classed", source="arXiv:2309.11235 sec. 3.1")
def classed(
    data: Sequence[Example],
    *,
    by: str | None = "rating",
    shares: dict[str, float],
    keep: tuple[str, ...] = (),
    key: str = "condition",
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Sort the examples into classes by their value `by`, and write the class under `key` into the metadata.

    by: None draws the classes at random, in the same sizes: what a class then says is nothing. shares: the
    share of the examples of each class, the lowest values first; together they are 1. Of equals the earlier
    example counts as lower, so that sizes hold. keep: only these classes; the others are left out and
    counted. Raises UsageError where the shares are none or a class is unknown, DataError where an example has
    no such value.
    """
    _refuse(shares, keep)
    values = [rng.random() if by is None else number_of(example, by) for example in data]
    names = dict(
        zip(sorted(range(len(data)), key=values.__getitem__), _names(shares, len(data)), strict=True)
    )
    for place, example in enumerate(data):
        if keep and names[place] not in keep:
            counts[f"of the class {names[place]!r}"] += 1
        else:
            yield replace(example, meta={**example.meta, key: names[place]})


@stage("conditioned", source="arXiv:2309.11235 sec. 3.2; imoneoi/openchat, conversation_template.py")
def conditioned(
    data: Sequence[Example],
    *,
    to: str | None = None,
    weights: dict[str, float] | None = None,
    template: str = "{condition}\n{said}",
    key: str = "condition",
    part: str = "text",
    counts: Counter[str],
) -> Iterator[Example]:
    """Write the class of each example into every message of its user, and weigh what learns by the class.

    to: the condition of all, e.g. the best class where replies are asked for; None takes that under `key` of
    the metadata. template: what a user's message becomes; where the condition is empty it stays as it is.
    The paper's own template has the condition in the headers of both roles; here the model's template stands
    as it is, and what comes before the answer is all of it. weights: of each class, the paper's
    exp(r / beta), of which only ratios matter: 1 and 0.1 there. They are loss weights, which count in what
    the sum is divided by, so that a batch of one class is as if it had none, and they say over `train_on`
    that all replies learn. None: no message gets a weight. A class without one is an error where examples
    are to be weighed; `to` may be any text. Conversations in which nothing learns are left out and counted.
    """
    for example in data:
        weight = None if weights is None else _weight(example, key, weights)
        said = _class(example, key) if to is None else to
        text = under(conversation_of(example, part), said, template)
        made = text if weight is None else _weighed(text, weight)
        if any(_learns(message) for message in made.messages):
            yield example.replaced(**{part: made})
        else:
            counts["nothing in it learns"] += 1


@stage("under_each")
def under_each(
    data: Sequence[Example],
    *,
    classes: tuple[str, str],
    template: str = "{condition}\n{said}",
    key: str = "condition",
    part: str = "text",
) -> Iterator[Example]:
    """Each conversation under the condition of its own class, as `chosen`, and under that of the other one,
    as `rejected`: what is likelier under its own is told apart by a model that was conditioned.

    Raises DataError where an example is of neither class.
    """
    for example in data:
        name = _class(example, key)
        if name not in classes:
            raise DataError(f"example {example.id!r} is of the class {name!r}, not one of {list(classes)}")
        other = classes[1 - classes.index(name)]
        text = conversation_of(example, part)
        parts = {"chosen": under(text, name, template), "rejected": under(text, other, template)}
        yield Example(parts, example.values, example.meta)


@stage("opposed", source="arXiv:2302.02676 sec. 2")
def opposed(
    data: Sequence[Example],
    *,
    classes: tuple[str, str],
    key: str = "condition",
    part: str = "text",
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Pair conversations of two classes, drawn at random: that of the second class as `chosen`, that of the
    first as `rejected`.

    Each is in one pair at most; those left over, and those of other classes, are counted.
    """
    sides: list[list[Example]] = [[], []]
    for example in data:
        name = _class(example, key)
        if name in classes:
            sides[classes.index(name)].append(example)
        else:
            counts["of neither class"] += 1
    for side in sides:
        rng.shuffle(side)
    poor, good = sides
    if left := abs(len(poor) - len(good)):
        counts["have no partner"] += left
    for worse, better in zip(poor, good, strict=False):
        parts = {"chosen": conversation_of(better, part), "rejected": conversation_of(worse, part)}
        yield Example(parts, {}, {"id": f"{better.id}/{worse.id}"})


def under(conversation: Conversation, condition: str, template: str) -> Conversation:
    """The conversation with the condition in every message of its user; as it is where that is empty."""
    if not condition:
        return conversation
    return replace(
        conversation, messages=tuple(put(one, condition, template) for one in conversation.messages)
    )


def put(message: Message, condition: str, template: str) -> Message:
    """A user's message with the condition, of which spans and ids are no longer true; others as they are.

    Texts are put in as they are: braces in them mean nothing. Raises UsageError where the template has no
    `{said}`.
    """
    if message.role != "user":
        return message
    before, found, after = template.partition("{said}")
    if not found:
        raise UsageError(f"the template {template!r} has no {{said}} in it: nobody would know what was asked")
    said = "".join(
        [before.replace("{condition}", condition), message.content, after.replace("{condition}", condition)]
    )
    return replace(message, content=said, spans=(), ids=None, logprobs=None)


# ------------------------------------------------------------------------------------------ details


def _weighed(conversation: Conversation, weight: float) -> Conversation:
    """What the assistant says, and plain text, with its weight times this one."""
    messages = (
        replace(one, weight=weight * (1.0 if one.weight is None else one.weight))
        if one.role in ("assistant", "text")
        else one
        for one in conversation.messages
    )
    return replace(conversation, messages=tuple(messages))


def _learns(message: Message) -> bool:
    return message.role in ("assistant", "text") and message.weight != 0


def _class(example: Example, key: str) -> str:
    found = example.meta.get(key)
    if not isinstance(found, str):
        raise DataError(
            f"example {example.id!r} has no class under {key!r} in its metadata: {found!r}. The stages "
            "`classed` and `tagged` give one"
        )
    return found


def _weight(example: Example, key: str, weights: Mapping[str, float]) -> float:
    name = _class(example, key)
    if name not in weights:
        raise DataError(f"example {example.id!r} is of the class {name!r}; `weights` has {list(weights)}")
    return weights[name]


def _refuse(shares: Mapping[str, float], keep: Sequence[str]) -> None:
    if not shares or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-9:
        raise UsageError(f"classed: the shares are {dict(shares)}, and together they have to be 1")
    if unknown := [name for name in keep if name not in shares]:
        raise UsageError(f"classed: keep has {unknown[0]!r}, which is not among {list(shares)}")


def _names(shares: Mapping[str, float], count: int) -> list[str]:
    """So many names, each class's as often as its share says, borders rounded to the nearest.

    >>> _names({"poor": 0.5, "good": 0.5}, 5)
    ['poor', 'poor', 'good', 'good', 'good']
    """
    found: list[str] = []
    upto = 0.0
    for name, share in shares.items():
        upto += share
        found += [name] * (round(upto * count) - len(found))
    return found
