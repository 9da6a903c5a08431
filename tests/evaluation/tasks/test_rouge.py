"""ROUGE-L of replies."""

from dataclasses import replace

import pytest

from turnsmith.errors import DataError
from turnsmith.evaluation.tasks.rouge import Rouge
from turnsmith.testing import TinyBench, conversations, subject
from turnsmith.types import Conversation, Example, Message, Reply, Usage


def test_replies_are_compared_with_the_last_one_of_the_conversation():
    chats = [
        Example(
            {"text": Conversation((Message("user", f"q{n}"), Message("assistant", "a b c")))},
            {},
            {"id": str(n)},
        )
        for n in range(3)
    ]
    said = ["A, b; c!", "b a", ""]  # all, one of three and two, nothing
    replies = [Reply(Message("assistant", text), "stop", Usage(1, 1)) for text in said]
    told = replace(subject(), chat=lambda asked, sampling, seed: replies)
    items = Rouge(on="chats").measure(told, TinyBench({"chats": chats}))
    assert [one.values["rouge"] for one in items] == [1.0, pytest.approx(2 / 5), 0.0]
    assert [one.shown["reference"] for one in items] == ["a b c"] * 3


def test_what_has_no_answer_is_refused():
    bench = TinyBench({"chats": [conversations(1)[0].replaced(text=Conversation((Message("user", "x"),)))]})
    with pytest.raises(DataError, match="has no answer to compare with"):
        Rouge(on="chats").measure(bench.tuned, bench)
