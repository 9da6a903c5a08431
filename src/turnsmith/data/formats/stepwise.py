"""Reasoning in steps, each of them judged, as TRL has it for process reward models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnsmith.data.cells import flag, unpacked
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.prompted import prompted, say_prompted
from turnsmith.data.messages import KEYS
from turnsmith.data.write import SAMPLED, Limit, Writer, answer, before, fields_but, opening, single
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import Conversation, Example, Json, Message, Span, is_list

USED = ("prompt", "completions", "labels", "tools")
BETWEEN = "\n"  # TRL puts it after each step too


def _texts(row: Row) -> list[str]:
    found: Any = unpacked(row["completions"])
    if not is_list(found) or not found or not all(isinstance(one, str) for one in found):
        raise DataError(f"completions must be a list of texts, and not empty: {found!r:.60}")
    return found


def _labels(row: Row, steps: int) -> list[bool]:
    found: Any = unpacked(row["labels"])
    if not is_list(found) or len(found) != steps:
        raise DataError(
            f"labels must be a list with one for each of the {steps} completions, not {found!r:.60}"
        )
    return [flag(one, f"labels[{number}]") for number, one in enumerate(found)]


def _steps(message: Message) -> Sequence[tuple[str, bool]]:
    """The steps of an answer whose spans are its steps, one a line or more."""
    found = [(message.content[span.start : span.end], span.weight) for span in message.spans]
    expected = _answer([text for text, _ in found], [weight == 1 for _, weight in found])
    if not found or (expected.content, expected.spans) != (message.content, message.spans):
        raise DataError("the spans of the answer must be its steps, joined by newlines, with weights 1 and 0")
    return [(text, weight == 1) for text, weight in found]


def _answer(steps: Sequence[str], labels: Sequence[bool]) -> Message:
    spans: list[Span] = []
    start = 0
    for step, label in zip(steps, labels, strict=True):
        spans.append(Span(start, start + len(step), float(label)))
        start += len(step) + len(BETWEEN)
    return Message("assistant", BETWEEN.join(steps), spans=tuple(spans))


def _row(example: Example) -> dict[str, Json]:
    whole, at = single(example), opening(example)
    if at != len(whole.messages) - 1:
        raise DataError("it ends on the answer that has the steps")
    steps = _steps(whole.messages[at])
    row = say_prompted(whole.upto(at))
    return {**row, "completions": [text for text, _ in steps], "labels": [label for _, label in steps]}


def _plain(example: Example) -> Example:
    """The steps are text, and weigh what they are judged: nothing else can be said of the answer."""
    whole = single(example)
    at = answer(whole)
    said = whole.messages[at]
    bare = Message("assistant", said.content, spans=said.spans)
    return example.replaced(
        text=Conversation((*whole.messages[:at], bare, *whole.messages[at + 1 :]), whole.tools)
    )


@format(
    "stepwise",
    columns=(("prompt", "completions", "labels"),),
    writer=Writer(
        _row,
        USED,
        (*SAMPLED, fields_but(KEYS), *before(opening), Limit("all of the answer but its steps", _plain)),
    ),
)
def stepwise(row: Row) -> Parsed:
    """Steps that were judged: `prompt`, `completions` and as many `labels`.

    One answer, in which each step is a line and a span that weighs 1 or 0: steps judged wrong are read and
    not learnt. The spans are the steps, so that nothing is lost.
    """
    steps = _texts(row)
    return Parsed({"text": prompted(row).then(_answer(steps, _labels(row, len(steps))))}, USED)
