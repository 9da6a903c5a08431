"""Stages that teach a guard: labels as categories of a policy, and the questions with their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from turnsmith.data.policy import Category, answer, policy_of, question
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Example, Json, Message, is_list

VIOLATED = "violated"  # of the metadata: the categories that an example violates
UNLABELLED = "unlabelled"  # and those of which nobody has said whether it does
CATEGORIES = "categories"  # those that a question lists, in its order


@stage("relabelled", source="arXiv:2312.06674 sec. 4.3")
def relabelled(data: Sequence[Example], *, names: dict[str, str], counts: Counter[str]) -> Iterator[Example]:
    """Exchange the labels of a data set for the categories of a policy that they mean.

    names: of each label its category; several may mean the same. Labels that are not among them are left out
    and counted. A category of which one label is known to be violated is violated; else it is unlabelled
    where any of its labels is.
    """
    for example in data:
        labels = violated(example)
        for label in labels:
            if label not in names:
                counts[f"labels that mean no category: {label}"] += 1
        found = list(dict.fromkeys(names[label] for label in labels if label in names))
        open_ = [names[label] for label in unlabelled(example) if label in names]
        kept = [name for name in dict.fromkeys(open_) if name not in found]
        yield Example(example.parts, example.values, {**example.meta, VIOLATED: found, UNLABELLED: kept})


@stage("violating")
def violating(
    data: Sequence[Example],
    *,
    categories: tuple[str, ...],
    count: int | None = None,
    others: int | None = 0,
    rng: Random,
) -> Iterator[Example]:
    """Keep `count` examples that violate one of the categories, and `others` that violate none of them, both
    drawn at random; None: all that there are.

    With `count: 0` and `others: null` a category becomes one that a guard never learnt. Raises UsageError
    where there are not so many.
    """
    sides: dict[bool, list[int]] = {True: [], False: []}
    for place, example in enumerate(data):
        sides[bool(set(categories) & set(violated(example)))].append(place)
    kept: set[int] = set()
    for wanted, places, what in ((count, sides[True], "count"), (others, sides[False], "others")):
        if wanted is not None and not 0 <= wanted <= len(places):
            raise UsageError(f"violating: `{what}` is {wanted}, and there are {len(places)} such examples")
        order = rng.sample(places, len(places))
        kept |= set(order[:wanted])
    yield from (data[place] for place in sorted(kept))


@stage("guard_prompts", source="arXiv:2312.06674 sec. 2.2 and 3; llama-recipes, finetuning_data_formatter")
def guard_prompts(
    data: Sequence[Example],
    *,
    policy: dict[str, str],
    copies: tuple[Literal["all", "fewer", "without"], ...] = ("all", "fewer"),
    orders: int | None = None,
    rng: Random,
    counts: Counter[str],
) -> Iterator[Example]:
    """Make of each conversation with its violated categories the question that a guard is asked, answered.

    policy: of each category its description, which may be empty. copies: `all` has all categories; `fewer`
    (the paper's first augmentation) lacks a random number, 0 to all, of those that are not violated;
    `without` (the second), of unsafe examples alone, lacks all that are violated and a random number of the
    others, and its answer is `safe`. One category at least is left; an example that violates all has no copy
    `without`, and is counted. The order is drawn for each copy, and codes follow it. orders: that there are
    of all categories, one of which each copy keeps to; None: any. What questions in one step have in common
    from their beginning is computed once, so that few orders cost less. What is judged is the last message,
    whoever said it. Ids get the copy's name behind them; metadata say which categories the question has, and
    which of them are violated. Categories that the policy does not have do not count, and are counted, as are
    those of the policy that nobody labelled, which are taken for not violated.
    """
    whole = policy_of(policy)
    names = {one.name for one in whole}
    if not copies or len(set(copies)) < len(copies):
        raise UsageError(f"guard_prompts: copies is {list(copies)}: name each kind once, and one at least")
    if orders is not None and orders < 1:
        raise UsageError(f"guard_prompts: orders is {orders}: there has to be one at least")
    drawn = [rng.sample(whole, len(whole)) for _ in range(orders or 0)]
    for example in data:
        found = set(violated(example))
        for reason, ones in (
            ("violated categories that the policy does not have", found - names),
            ("categories that nobody labelled, taken for not violated", names & set(unlabelled(example))),
        ):
            counts.update({reason: len(ones)} if ones else {})
        for copy in copies:
            if copy == "without" and not found & names:
                continue
            order = rng.choice(drawn) if drawn else rng.sample(whole, len(whole))
            listed = _listed(order, found, copy, rng)
            if listed:
                yield _asked(example, listed, copy)
            else:
                counts["violate all categories: no copy without them"] += 1


def _listed(order: Sequence[Category], found: set[str], copy: str, rng: Random) -> list[Category]:
    """The categories of a copy in this order; none where it cannot be made."""
    against = [one for one in order if one.name in found]
    others = [one for one in order if one.name not in found]
    least = 0 if against and copy != "without" else min(1, len(others))
    kept = rng.sample(others, len(others) if copy == "all" else rng.randint(least, len(others)))
    wanted = kept if copy == "without" else [*against, *kept]
    return [one for one in order if one in wanted]


def _asked(example: Example, listed: Sequence[Category], copy: str) -> Example:
    conversation = conversation_of(example, "text")
    found = violated(example)
    said = question(listed, conversation, name=example.id).then(Message("assistant", answer(listed, found)))
    meta: dict[str, Json] = {
        **example.meta,
        "id": f"{example.id}-{copy}",
        CATEGORIES: [one.name for one in listed],
        VIOLATED: [one.name for one in listed if one.name in found],
    }
    return Example({"text": said}, example.values, meta)


def violated(example: Example) -> list[str]:
    """The categories that the example violates; DataError where nobody says."""
    return _names(example, VIOLATED, None)


def unlabelled(example: Example) -> list[str]:
    """The categories of which nobody says whether the example violates them."""
    return _names(example, UNLABELLED, [])


def _names(example: Example, key: str, absent: list[str] | None) -> list[str]:
    found = example.meta.get(key, absent)
    if not is_list(found) or not all(isinstance(name, str) for name in found):
        raise DataError(
            f"example {example.id!r}: `{key}` of its metadata is {found!r}: a list of names of categories is "
            "needed, empty where it is safe"
        )
    return [str(name) for name in found]
