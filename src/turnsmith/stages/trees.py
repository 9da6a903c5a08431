"""Stages that take message trees apart: threads to imitate, ranked replies to judge, and prompts to answer.

They take trees as the format `oasst` reads them, use those that are ready for export, and leave out what is
deleted or was written by a model. Split by tree: either before, when each example is a tree, or `by:
message_tree_id`, which all that is made here keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

from turnsmith.data.formats.oasst import Node, oasst, tree
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage
from turnsmith.types import Conversation, Example, Json

READY = "ready_for_export"
Thread = tuple[Node, ...]  # from the first message of a tree on


@stage("tree_threads", source="LAION-AI/Open-Assistant, custom_datasets/oasst_dataset.py")
def tree_threads(
    data: Sequence[Example],
    *,
    top_k: int | None = None,
    most: int | None = None,
    languages: tuple[str, ...] = (),
    counts: Counter[str],
) -> Iterator[Example]:
    """Every way from the first message of a tree to an answer that ends it, as a conversation `text`.

    Where prompters have the last word, what they said is cut, and of several only the first counts, so that
    no thread comes twice. All answers of a thread learn, also those that other threads have. top_k: answers
    of this rank and beyond are left out, with all that follows them; ranks start at 0, and an answer without
    one stays only where it has no siblings. most: of each tree the first so many threads. languages: of first
    messages; empty for all. What is left out is counted.
    """
    _refuse(top_k=top_k, most=most)
    for example in data:
        kept = 0
        for thread in _ends(_ready(example, languages, counts)):
            flaw = _flaw(thread, top_k)
            if flaw:
                counts[f"threads {flaw}"] += 1
            elif kept == most:
                counts[f"threads of a tree beyond {most}"] += 1
            else:
                yield _made(example, kept, {"text": _said(thread[: len(thread) // 2 * 2])})
                kept += 1


@stage("tree_sets", source="LAION-AI/Open-Assistant, custom_datasets/oasst_dataset.py")
def tree_sets(
    data: Sequence[Example],
    *,
    top_k: int | None = None,
    most: int = 5,
    languages: tuple[str, ...] = (),
    counts: Counter[str],
) -> Iterator[Example]:
    """Every prompt of a tree with two ranked answers or more, the answers as the part `replies`, best first.

    Each of the replies is the whole conversation up to it: let nothing but its end learn (`train_on: last`).
    The value `rank` is as the tree has it, 0 for the best; `reward` is minus that, for what takes more as
    better. most: of worse answers those beyond so many are left out. top_k: as of `tree_threads`, for what
    stands before the prompt. What is left out is counted. Raises DataError where a rank is no number.
    """
    _refuse(top_k=top_k, most=most)
    for example in data:
        kept = 0
        for thread in _prompts(_ready(example, languages, counts)):
            flaw = _flaw(thread, top_k)
            ranked = [] if flaw else _ranked(example, thread[-1], counts)
            ranks = tuple(rank for rank, _ in ranked[:most])
            if flaw:
                counts[f"prompts {flaw}"] += 1
            elif len(set(ranks)) < 2:
                counts["prompts without two answers of different rank"] += 1
            else:
                counts.update({f"answers beyond {most}": len(ranked) - most} if len(ranked) > most else {})
                replies = tuple(_said((*thread, reply)) for _, reply in ranked[:most])
                values = {"rank": ranks, "reward": tuple(-rank for rank in ranks)}
                yield replace(_made(example, kept, {"replies": replies}), values=values)
                kept += 1


@stage("tree_prompts", source="LAION-AI/Open-Assistant, custom_datasets/oasst_dataset.py")
def tree_prompts(
    data: Sequence[Example], *, languages: tuple[str, ...] = (), counts: Counter[str]
) -> Iterator[Example]:
    """Every conversation of a tree up to something that a prompter says, as `text`: what is to be answered.

    languages: of first messages; empty for all. What is left out is counted.
    """
    for example in data:
        kept = 0
        for thread in _prompts(_ready(example, languages, counts)):
            flaw = _flaw(thread, None)
            if flaw:
                counts[f"prompts {flaw}"] += 1
                continue
            yield _made(example, kept, {"text": _said(thread)})
            kept += 1


@stage("sum_trees")
def sum_trees(data: Sequence[Example], *, count: int, rng: Random) -> Iterator[Example]:
    """Add `count` message trees about sums: three answers, the best a sentence, the next a number alone, the
    worst wrong; and a second question behind the best, with a right answer and a wrong one.

    Raises UsageError where the count is below 0.
    """
    if count < 0:
        raise UsageError(f"sum_trees: count is {count}, and cannot be below 0")
    yield from data
    for number in range(count):
        id = f"sums-{number}"
        first, second = rng.randrange(10, 50), rng.randrange(1, 10)
        total, less = first + second, first - second
        best = _node(f"{id}-a", f"{first} plus {second} is {total}.", rank=0)
        best["replies"] = [
            _node(
                f"{id}-d",
                f"And {first} minus {second}?",
                _node(f"{id}-e", f"{first} minus {second} is {less}.", rank=0),
                _node(f"{id}-f", f"It is {less + rng.randrange(1, 10)}.", rank=1),
            )
        ]
        others = [
            _node(f"{id}-b", f"{total}", rank=1),
            _node(f"{id}-c", f"{total + rng.randrange(1, 10)}", rank=2),
        ]
        asked = _node(id, f"What is {first} plus {second}?", best, *others)
        found = oasst({"message_tree_id": id, "prompt": asked})
        meta = {"id": id, "message_tree_id": id, "tree_state": READY, **found.meta}
        yield Example(found.parts, {}, meta)


# ------------------------------------------------------------------------------------------ details


def _refuse(**least: int | None) -> None:
    for name, value in least.items():
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}, and has to be 1 or more")


def _ready(example: Example, languages: Sequence[str], counts: Counter[str]) -> Node | None:
    """The tree, where it is ready, its first message was accepted, and it is in one of the languages."""
    top = tree(example)
    fields = top.message.fields
    if example.meta.get("tree_state") != READY:
        counts["trees that are not ready for export"] += 1
    elif fields.get("review_result") is not True:
        counts["trees whose first message was not accepted"] += 1
    elif languages and fields.get("lang") not in languages:
        counts["trees in other languages"] += 1
    else:
        return top
    return None


def _walks(node: Node | None, before: Thread = ()) -> Iterator[Thread]:
    """The ways to every message, those behind an earlier reply first."""
    if node is None:
        return
    thread = (*before, node)
    yield thread
    for reply in node.replies.values():
        yield from _walks(reply, thread)


def _ends(top: Node | None) -> Iterator[Thread]:
    """The ways to the ends of a tree; of several prompters who have the last word, to the first."""
    for thread in _walks(top):
        if len(thread) == 1 or thread[-1].replies:
            continue
        if _answers(thread[-1]) or next(iter(thread[-2].replies.values())) is thread[-1]:
            yield thread


def _prompts(top: Node | None) -> Iterator[Thread]:
    return (thread for thread in _walks(top) if not _answers(thread[-1]))


def _flaw(thread: Thread, top_k: int | None) -> str | None:
    """Why a thread cannot be used."""
    if any(_unfit(node) for node in thread):
        return "with a deleted message, or one that a model wrote"
    if any(_answers(node) != bool(place % 2) for place, node in enumerate(thread)):
        return "in which one side speaks twice"
    if top_k is not None and any(_beyond(node, asked, top_k) for asked, node in pairwise(thread)):
        return f"with an answer beyond the best {top_k}"
    return None


def _unfit(node: Node) -> bool:
    return any(node.message.fields.get(key) is True for key in ("deleted", "synthetic"))


def _answers(node: Node) -> bool:
    return node.message.role == "assistant"


def _beyond(node: Node, asked: Node, top_k: int) -> bool:
    """Whether it is an answer that is not among the best."""
    rank = node.message.fields.get("rank")
    if not _answers(node):
        return False
    return len(asked.replies) > 1 if rank is None else _number(rank, node) >= top_k


def _ranked(example: Example, asked: Node, counts: Counter[str]) -> list[tuple[float, Node]]:
    """The answers that have a rank and may be used, the best first."""
    found: list[tuple[float, Node]] = []
    for reply in asked.replies.values():
        rank = reply.message.fields.get("rank")
        if _unfit(reply):
            counts["answers that were deleted, or that a model wrote"] += 1
        elif _answers(reply) and rank is not None:
            found.append((_number(rank, reply), reply))
    return sorted(found, key=lambda pair: pair[0])


def _number(rank: Json, node: Node) -> float:
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise DataError(f"message {node.message.fields.get('message_id')!r} has the rank {rank!r}: no number")
    return float(rank)


def _said(thread: Thread) -> Conversation:
    """The conversation, in which all answers may learn: in a tree each does so only once."""
    return Conversation(tuple(replace(node.message, weight=None) for node in thread))


def _made(
    example: Example, number: int, parts: dict[str, Conversation | tuple[Conversation, ...]]
) -> Example:
    kept = {key: value for key, value in example.meta.items() if key != "rest"}
    return Example(parts, {}, {**kept, "id": f"{example.id}/{number}"})


def _node(id: str, text: str, *replies: dict[str, Json], rank: int | None = None) -> dict[str, Json]:
    """A message as OpenAssistant writes it."""
    role = "prompter" if rank is None else "assistant"
    plain: dict[str, Json] = {
        "message_id": id,
        "text": text,
        "role": role,
        "lang": "en",
        "review_result": True,
    }
    return {**plain, **({} if rank is None else {"rank": rank}), "replies": list(replies)}
