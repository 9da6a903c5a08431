"""Silence in dialogues of slices."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.tasks.idling import Idling
from turnsmith.stages.duplex import Slice, conversation
from turnsmith.testing import TinyBench, conversations, subject
from turnsmith.types import Example, Message, Reply, Usage

SLICES = [
    Slice("what is", ""),
    Slice("red", ""),
    Slice("", "a colour of"),
    Slice("no wait", ""),  # the interruption
    Slice("", "yes"),
    Slice("", "the sun"),  # the answer goes on
]
CHAT = Example({"text": conversation(SLICES)}, {}, {"id": "a", "stops": [3], "resumes": [5]})


def measured(said):
    asked, coming = [], iter(said)

    def chat(conversations, sampling, seed):
        asked.extend(conversations)
        return [Reply(Message("assistant", next(coming)), "stop", Usage(1, 1)) for _ in conversations]

    items = Idling(on="chats").measure(replace(subject(), chat=chat), TinyBench({"chats": [CHAT]}))
    return {row["name"]: row["after"] for row in alone(Idling.metrics, items)}, asked


def silent(f1, precision, recall):
    return {"idle F1": f1, "idle precision": precision, "idle recall": recall}


def test_each_slice_is_asked_after_what_was_really_said():
    figures, asked = measured(["", "", "x", "", "x", "x"])
    assert figures == {**silent(1.0, 1.0, 1.0), "stops at once": 1.0, "resumes": 1.0}
    assert [len(one.messages) for one in asked] == [1, 3, 5, 7, 9, 11]
    assert asked[3].messages == CHAT.parts["text"].messages[:7]


def test_who_never_stops_and_who_never_speaks():
    # Silent at none of three idle slices: nothing found.
    figures, _ = measured(["x"] * 6)
    assert figures == {**silent(0.0, 0.0, 0.0), "stops at once": 0.0, "resumes": 1.0}
    # Silent at all six: precision 1/2, recall 1.
    figures, _ = measured([" "] * 6)
    assert figures == {**silent(pytest.approx(2 / 3), 1 / 2, 1.0), "stops at once": 1.0, "resumes": 0.0}


def test_precision_and_recall_count_alike():
    # Silent at slices 0 and 2, idle are 0, 1 and 3: precision 1/2, recall 1/3.
    figures, _ = measured(["", "x", "", "x", "x", "x"])
    f1 = 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)
    assert figures.items() >= silent(pytest.approx(f1), 1 / 2, pytest.approx(1 / 3)).items()


def test_data_that_is_not_in_slices_is_refused():
    bench = TinyBench({"chats": [replace(CHAT, meta={**CHAT.meta, "resumes": []})]})
    with pytest.raises(DataError, match="in none of the dialogues of 'chats' an answer resumes"):
        Idling(on="chats").measure(bench.tuned, bench)
    bench = TinyBench({"chats": conversations(1)})
    with pytest.raises(DataError, match="use the stage `duplex`"):
        Idling(on="chats").measure(bench.tuned, bench)
