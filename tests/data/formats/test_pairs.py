"""Preference pairs in all their spellings: the same two answers, and what they are worth."""

import pytest

from turnsmith.data.formats.pairs import hh, pairs
from turnsmith.data.formats.ranked import pairs_alpaca, pairs_messages, pairs_sharegpt
from turnsmith.errors import DataError
from turnsmith.testing import chat
from turnsmith.types import Call, Message

ASKED, GOOD, BAD = "Hi", "Hello", "Go away"
PARTS = {
    "chosen": [("user", "Hi", 0.0), ("assistant", "Hello", None)],
    "rejected": [("user", "Hi", 0.0), ("assistant", "Go away", None)],
}
HI = {"from": "human", "value": ASKED}
USER = {"role": "user", "content": ASKED}
START = "\n\nHuman: Hi\n\nAssistant:"
HELLO, GO = ({"role": "assistant", "content": text} for text in (GOOD, BAD))


def gpt(text):
    return {"from": "gpt", "value": text}


def texts(parsed):
    return {
        name: [(m.role, m.content, m.weight) for m in part.messages] for name, part in parsed.parts.items()
    }


@pytest.mark.parametrize(
    ("read", "row"),
    [
        (pairs, {"prompt": ASKED, "chosen": GOOD, "rejected": BAD}),
        (pairs, {"chosen": [USER, HELLO], "rejected": [USER, GO]}),
        (hh, {"chosen": f"{START} Hello", "rejected": f"{START} Go away"}),
        (pairs_sharegpt, {"conversations": [HI], "chosen": gpt(GOOD), "rejected": gpt(BAD)}),
        (pairs_alpaca, {"instruction": ASKED, "input": "", "chosen": GOOD, "rejected": BAD}),
        (pairs_messages, {"messages": [USER, HELLO], "rejected_response": BAD}),
        (pairs_messages, {"messages": [USER, HELLO], "rejected_response": [GO]}),
        (pairs_messages, {"messages": [USER, HELLO], "rejected_messages": [USER, GO]}),
    ],
)
def test_a_pair_is_the_same_in_every_spelling(read, row):
    assert texts(read(row)) == PARTS


@pytest.mark.parametrize("written", [0.5, "0.5"])
def test_margin_and_scores_are_values(written):
    row = {
        "prompt": ASKED,
        "chosen": GOOD,
        "rejected": BAD,
        "score_chosen": 8,
        "score_rejected": "",
        "margin": written,
    }
    assert pairs(row).values == {"margin": 0.5, "score_chosen": 8.0}
    assert set(row) <= set(pairs(row).used)


@pytest.mark.parametrize("margin", ["high", True, float("nan"), [1]])
def test_a_margin_that_is_no_number_is_refused(margin):
    with pytest.raises(DataError, match="margin must be a number"):
        pairs({"prompt": ASKED, "chosen": GOOD, "rejected": BAD, "margin": margin})


def test_a_transcript_has_an_answer_that_says_nothing_and_lines_that_are_empty():
    row = {
        "chosen": "\n\nHuman: a\n\nb\n\nAssistant:",
        "rejected": "\n\nHuman: a\n\nb\n\nAssistant: Human: no",
    }
    found = hh(row).parts
    assert found["chosen"].messages[1] == Message("assistant", "")
    assert [m.content for m in found["rejected"].messages] == ["a\n\nb", "Human: no"]


def test_what_is_no_transcript_is_refused():
    with pytest.raises(DataError, match="chosen must be text that begins with an empty line and Human:"):
        hh({"chosen": "Hello", "rejected": "Go away"})


def test_a_chosen_call_and_its_tools():
    call = {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'}
    row = {
        "conversations": [HI],
        "chosen": call,
        "rejected": {"from": "gpt", "value": BAD},
        "tools": '[{"name": "add"}]',
    }
    chosen = pairs_sharegpt(row).parts["chosen"]
    assert (chosen.messages[-1].calls, chosen.tools) == ((Call("add", {"a": 1}),), ({"name": "add"},))


def test_a_weight_of_the_rejected_answer_is_kept():
    """What is rejected may be weighed too: only its bad half, say."""
    rejected = {"from": "gpt", "value": "Hello? Go away", "spans": [[0, 6, 0]], "weight": 2}
    row = {"conversations": [HI], "chosen": {"from": "gpt", "value": GOOD}, "rejected": rejected}
    said = pairs_sharegpt(row).parts["rejected"].messages[-1]
    assert (said.weight, [(span.start, span.end, span.weight) for span in said.spans]) == (2.0, [(0, 6, 0)])


def test_earlier_answers_of_swift_are_read_and_not_learnt():
    messages = [USER, HELLO, {"role": "user", "content": "And?"}, {"role": "assistant", "content": "Good"}]
    found = pairs_messages({"messages": messages, "rejected_response": "Bad"}).parts["rejected"]
    expected = chat("u: Hi", "a: Hello", "u: And?", "a: Bad")
    assert [m.content for m in found.messages] == [m.content for m in expected.messages]
    assert [m.weight for m in found.messages] == [0.0, 0.0, 0.0, None]


def test_without_an_answer_there_is_nothing_to_reject():
    with pytest.raises(DataError, match="messages must have a question and an answer that was chosen"):
        pairs_messages({"messages": [USER], "rejected_response": "Bad"})
