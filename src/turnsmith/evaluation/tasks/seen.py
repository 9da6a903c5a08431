"""What a model says of images whose truth is known: boxes, and the names of what is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnsmith.data.boxes import Box, average_precision, mean_overlap, read
from turnsmith.errors import DataError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answered, answers
from turnsmith.registry import task
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Failure, Json, Reply, Sampling, is_list


@task("boxes", data=True, asks="replies", source="uzh-dqbm-cmi/RadVLM, compute_metrics_tasks.py")
class Boxes:
    """How well the boxes that a model writes lie on those in truth: mean average precision and overlap.

    on: data whose examples have `boxes` in their metadata, a list of [left, top, right, bottom] from 0 to 1,
    as `scene_chats` leaves them; those without are not asked. Every `[a, b, c, d]` in the reply to the last
    question counts, in order. least: overlap from which a box is right. count: examples, from the first.
    temperature: 0 is greedy. max_new: tokens of a reply. The source also reports the mean overlap of all
    said with all true boxes, which is low where several boxes are all right; here each box has one partner,
    and what is missing or too many counts as 0.
    """

    title = "Boxes"
    note = (
        "mAP is the mean over images of the average precision of the boxes in the reply, one being right "
        "where it overlaps a true box enough. IoU is intersection over "
        "union, of each box and its one best partner."
    )
    metrics = (
        Metric("mAP", "precision", "share", "higher", of="images"),
        Metric("IoU", "overlap", "share", "higher", of="images"),
    )

    def __init__(
        self,
        *,
        on: str,
        least: float = 0.5,
        count: int | None = None,
        temperature: float = 0.0,
        max_new: int = 96,
    ) -> None:
        self.on, self.least, self.count = on, least, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        asked: dict[str, Conversation] = {}
        true: dict[str, list[Box]] = {}
        items: list[Item] = []
        for example in _with(bench.examples(self.on), "boxes", self.on, subject)[: self.count]:
            text = conversation_of(example, "text")
            asked[example.id], true[example.id] = text.opening, _boxes(example)
            shown: dict[str, Json] = {"reference": text.messages[len(text.opening.messages)].content}
            items.append(Item(example.id, "", {}, shown))

        def judged(item: Item, reply: Reply) -> tuple[Mapping[str, float], Mapping[str, Json]]:
            said, own = read(reply.message.content), true[item.id]
            precision = average_precision(said, own, least=self.least)
            return {"precision": precision, "overlap": mean_overlap(said, own)}, {
                "text": reply.message.content
            }

        return answered(subject, asked, self.sampling, items, judged)


@task("named", data=True, asks="replies", source="uzh-dqbm-cmi/RadVLM, compute_metrics_tasks.py")
class Named:
    """Which of some labels a model's replies name: F1 over all decisions, and of each label.

    on: data whose examples have `gold` in their metadata, the labels in truth; those without are not asked.
    labels: all that may be named. A label counts as said where its name, in lower case, stands in the reply:
    "no red circle" names the red circle, so ask for lists, not for sentences that deny. count, temperature,
    max_new: as of `boxes`.
    """

    title = "Labels that replies name"
    note = (
        "For each image and label, whether the reply has the label's name in it, against the truth. F1 "
        "counts the decisions of all labels together; a name in a denial counts as said."
    )
    metrics = (
        Metric("F1", "said", "share", "higher", of="decisions", reduce="f1", others=("gold",), grouped=True),
    )

    def __init__(
        self,
        *,
        on: str,
        labels: tuple[str, ...],
        count: int | None = None,
        temperature: float = 0.0,
        max_new: int = 48,
    ) -> None:
        if not labels:
            raise DataError("named: labels: name what may be said")
        self.on, self.labels, self.count = on, labels, count
        self.sampling = Sampling(temperature=temperature, max_new=max_new)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        found = _with(bench.examples(self.on), "gold", self.on, subject)[: self.count]
        replies = answers(
            subject, {one.id: conversation_of(one, "text").opening for one in found}, self.sampling
        )
        items: list[Item] = []
        for example in found:
            reply, gold = replies[example.id], _labels(example, self.labels)
            for label in self.labels:
                id, shown = f"{example.id}/{label}", {"reference": ", ".join(gold)}
                if isinstance(reply, Failure):
                    items.append(Item(id, label, {}, shown, failed=reply.reason))
                    continue
                text = reply.message.content
                values = {"said": float(label.lower() in text.lower()), "gold": float(label in gold)}
                items.append(Item(id, label, values, {**shown, "text": text}, finish=reply.finish))
        return items


def _with(examples: Sequence[Example], key: str, on: str, subject: Subject) -> list[Example]:
    """The examples whose metadata have the key, the others being counted; DataError where none has."""
    found = [example for example in examples if key in example.meta]
    if not found:
        raise DataError(
            f"no example of {on!r} has `{key}` in its metadata: measure on what scene_chats makes"
        )
    subject.lost[f"left out: no `{key}` in its metadata"] += len(examples) - len(found)
    return found


def _boxes(example: Example) -> list[Box]:
    given: Any = example.meta["boxes"]
    if not is_list(given) or not all(is_list(box) and len(box) == 4 for box in given):
        raise DataError(f"example {example.id!r}: boxes must be lists of four numbers, not {given!r:.60}")
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in given]


def _labels(example: Example, known: Sequence[str]) -> list[str]:
    given: Any = example.meta["gold"]
    strange = [one for one in given if one not in known] if is_list(given) else [given]
    if strange:
        raise DataError(f"example {example.id!r} has the label {strange[0]!r}, which is not among `labels`")
    return list(given)
