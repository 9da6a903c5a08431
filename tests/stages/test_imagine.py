"""Dialogues imagined by a scripted generator: personas, outcomes, critique, revision, a judge. Card 12."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.imagine import imagined, read
from turnsmith.testing import STAGE, variety
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Sampling, Usage

TASK = "sell {one} hat"  # braces in what a user says stay as they are
PEOPLE = "Here they are:\n1. hair: long; short\n- **age**: young; old; any.\nThat is all"


class Generator:
    """Answers by what it is asked for, or with what `answers` has instead, None for a failure. asked: all
    conversations so far."""

    def __init__(self, **answers: str | None) -> None:
        self.answers = answers
        self.asked: list[Conversation] = []

    def __call__(
        self, conversations: Sequence[Conversation], *, sampling: Sampling | None = None, seed: int = 0
    ) -> list[Reply | Failure]:
        self.asked += conversations
        return [self._answer(one.messages) for one in conversations]

    def _answer(self, messages: Sequence[Message]) -> Reply | Failure:
        text = messages[-1].content
        kinds = {"Consider": "people", "Write a": "first", "Criticise": "critique", "Write the": "last"}
        kind = next((name for start, name in kinds.items() if text.startswith(start)), "verdict")
        outcome = "well" if "ends well" in messages[0].content else "badly"
        usual = {
            "people": PEOPLE,
            "first": f"Human: hi\nAgent: first {outcome}",
            "critique": "The human said too much.",
            "last": f"Human: hi\nAgent: last {outcome}",
            "verdict": "Yes." if "last well" in text else "No, it did not.",
        }
        said = self.answers.get(kind, usual[kind])
        if said is None:
            return Failure("the server is away")
        return Reply(Message("assistant", said), "stop", Usage(1, 1))


def made(by: Generator, **options: Any) -> tuple[list[Example], Counter[str]]:
    counts: Counter[str] = Counter()
    filled = {"task": TASK, "count": 12, **options}
    return list(imagined([], by=by, rng=Random(0), counts=counts, **filled)), counts


def said(example: Example) -> list[str]:
    found = example.parts["text"]
    assert isinstance(found, Conversation)
    return [f"{message.role}: {message.content}" for message in found.messages]


def test_personas_are_all_combinations_and_come_equally_often_and_half_of_the_dialogues_end_well() -> None:
    found, counts = made(Generator())
    people = Counter(one.meta["persona"] for one in found)
    assert set(people) == {f"hair: {h}, age: {a}" for h in ("long", "short") for a in ("young", "old", "any")}
    assert set(people.values()) == {2}
    assert Counter(one.values["reward"] for one in found) == {1.0: 6, 0.0: 6}
    assert not counts


def test_the_label_keeps_in_step_with_the_revised_text() -> None:
    found, _ = made(Generator())
    for one in found:
        outcome = "well" if one.values["reward"] else "badly"
        assert said(one) == ["user: hi", f"assistant: last {outcome}"]
        assert one.meta["critique"] == "The human said too much."
        assert one.meta["task"] == TASK


def test_the_generator_is_asked_for_persona_and_outcome_and_sees_draft_and_critique_when_it_revises() -> None:
    by = Generator()
    made(by, personas=("Ann, a {tall} smith",), count=1, good=0.0)
    first, critique, last = by.asked
    assert "Ann, a {tall} smith" in first.messages[0].content
    assert TASK in first.messages[0].content
    assert "ends badly" in first.messages[0].content
    assert last.messages[:3] == (*critique.messages[:2], critique.messages[2])
    assert [one.content for one in last.messages[1:4:2]] == [
        "Human: hi\nAgent: first badly",
        "The human said too much.",
    ]
    assert "ends badly" in last.messages[-1].content


def test_without_revisions_the_first_version_stays() -> None:
    by = Generator()
    (one,), _ = made(by, personas=("Ann",), count=1, good=1.0, revisions=0)
    assert said(one) == ["user: hi", "assistant: first well"]
    assert one.meta["critique"] == ""
    assert len(by.asked) == 1


def test_a_judge_drops_what_did_not_end_as_it_was_meant_to() -> None:
    """A judge that finds all well agrees with the dialogues that were to end well, one that finds all badly
    with the others, and one that rambles judges none."""
    for verdict, kept, reason in (
        ("Yes", {1.0: 6}, "did not end as they were meant to"),
        ("**No**, sadly", {0.0: 6}, "did not end as they were meant to"),
    ):
        found, counts = made(Generator(), judge=Generator(verdict=verdict))
        assert Counter(one.values["reward"] for one in found) == kept
        assert counts == {reason: 6}
    assert made(Generator(), judge=Generator(verdict="Maybe yes")) == ([], {"could not be judged": 12})
    found, counts = made(Generator(), judge=Generator())
    assert len(found) == 12
    assert not counts


@pytest.mark.parametrize(
    ("answers", "kept", "reason"),
    [
        ({"first": "I would rather not."}, 0, "could not be read as a dialogue"),
        ({"first": None}, 0, "could not be answered: the server is away"),
        ({"critique": None}, 0, "could not be answered: the server is away"),
        ({"last": "Agent: me first"}, 12, "stay as they were: their revision could not be read"),
    ],
)
def test_what_cannot_be_read_or_answered_is_counted(answers: dict[str, Any], kept: int, reason: str) -> None:
    found, counts = made(Generator(**answers))
    assert len(found) == kept
    assert counts == {reason: 12}
    if kept:
        assert {said(one)[1] for one in found} == {"assistant: first well", "assistant: first badly"}


@pytest.mark.parametrize("people", ["I cannot say.", None])
def test_without_a_trait_in_the_answer_nothing_is_made(people: str | None) -> None:
    with pytest.raises(DataError, match="or say who the people are in `personas`"):
        made(Generator(people=people))


@pytest.mark.parametrize("options", [{"count": 0}, {"traits": 0}, {"revisions": -1}, {"good": 1.5}])
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="imagined: count"):
        made(Generator(), **options)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Sure!\n\n**Human:** Hi\n**Agent:** Hello", ["user: Hi", "assistant: Hello"]),
        ("Human: a\nHuman: b\nAgent: c", ["user: a\nb", "assistant: c"]),
        ("Human: a\nAgent: b: c\nd", ["user: a", "assistant: b: c\nd"]),
        ("Agent: a\nHuman: b", None),
        ("Human: a", None),
        ("Human: a\nAgent:", None),
        ("", None),
    ],
)
def test_a_dialogue_is_read_by_its_speakers(text: str, found: list[str] | None) -> None:
    dialogue = read(text)
    assert (
        None if dialogue is None else [f"{one.role}: {one.content}" for one in dialogue.messages]
    ) == found


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_the_contract_of_stages_holds(check: Any) -> None:
    check(lambda data: list(_all(data)), variety())


def _all(data: Sequence[Example]) -> list[Example]:
    return list(imagined(data, by=Generator(), task=TASK, count=3, rng=Random(0), counts=Counter()))
