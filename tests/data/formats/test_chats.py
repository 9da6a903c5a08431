"""Chats in the spellings of others: ShareGPT's turns, exchanges, Alpaca's columns, prompts, and weights."""

import pytest

from turnsmith.data.formats.alpaca import alpaca
from turnsmith.data.formats.exchanges import exchanges
from turnsmith.data.formats.openai import messages
from turnsmith.data.formats.prompted import prompt
from turnsmith.data.formats.sharegpt import sharegpt
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import chat
from turnsmith.types import Call, Conversation, Example, Message, Span

SAID = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2
TURNS = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}] * 2
READERS = [(messages, {"messages": SAID}), (sharegpt, {"conversations": TURNS, "system": "s"})]


def weights(parsed):
    return [m.weight for m in parsed.parts["text"].messages if m.role != "system"]


@pytest.mark.parametrize(("read", "row"), READERS)
def test_a_row_may_weigh_each_of_its_messages(read, row):
    """A system text that is a column of its own is none of them."""
    assert weights(read({**row, "loss_mask": [0, 0, 0, 1]})) == [0.0, 0.0, 0.0, 1.0]
    assert weights(read({**row, "loss_mask": "[0, 0, 0, 1]"})) == [0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(("read", "row"), READERS)
@pytest.mark.parametrize("mask", [[0, 1], "no", {"x": 1}])
def test_a_mask_of_another_length_is_refused(read, row, mask):
    with pytest.raises(DataError, match="loss_mask must have a number for each of the 4"):
        read({**row, "loss_mask": mask})


def test_a_mask_that_a_message_contradicts_is_refused():
    said = [{**SAID[0], "weight": 1}, SAID[1]]
    with pytest.raises(DataError, match=r"messages\[0\] says weight 1 and loss_mask 0: which of them counts"):
        messages({"messages": said, "loss_mask": [0, 1]})


@pytest.mark.parametrize(
    ("read", "row"), [*READERS, (alpaca, {"instruction": "a", "output": "b", "history": [["a", "b"]]})]
)
def test_history_may_be_masked(read, row):
    assert weights(read({**row, "mask_history": True})) == [None, 0.0, None, None]
    assert weights(read({**row, "mask_history": False})) == [None] * 4


def test_a_turn_may_weigh_its_stretches_and_keep_its_keys():
    """Axolotl counts the last character in: 0 to 4 are `Hello`."""
    detail = [{"begin_offset": 0, "end_offset": 4, "train": False}]
    turn = {"from": "gpt", "value": "Hello, you", "train_detail": detail, "model": "m1"}
    (found,) = sharegpt({"conversations": [turn]}).parts["text"].messages
    assert (found.spans, found.fields) == ((Span(0, 5, 0.0),), {"model": "m1"})


def test_openai_messages_under_the_name_of_sharegpt():
    assert sharegpt({"conversations": SAID[:2]}).parts["text"] == chat("u: a", "a: b")


def test_several_calls_in_one_turn():
    text = '[{"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": "{\\"a\\": 2}"}]'
    (found,) = sharegpt({"conversations": [{"from": "function_call", "value": text}]}).parts["text"].messages
    assert found.calls == (Call("add", {"a": 1}), Call("add", {"a": 2}))


def test_parts_of_the_content_that_think_and_call():
    parts = [
        {"type": "reasoning", "value": "A sum."},
        {"type": "text", "value": "I add."},
        {"type": "tool_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
    ]
    (found,) = messages({"messages": [{"role": "assistant", "content": parts}]}).parts["text"].messages
    assert (found.thinking, found.content, found.calls) == ("A sum.", "I add.", (Call("add", {"a": 1}),))


def test_exchanges():
    row = {
        "system": "s",
        "conversation": [{"human": "a", "assistant": "b"}, {"human": "c", "assistant": "d", "loss": False}],
    }
    expected = chat("s: s", "u: a", "a: b", "u: c", "a: d")
    found = exchanges(row).parts["text"]
    assert [(m.role, m.content) for m in found.messages] == [(m.role, m.content) for m in expected.messages]
    assert [m.weight for m in found.messages] == [None] * 4 + [0.0]
    with pytest.raises(DataError, match=r"conversation\[0\] must have `human` and `assistant`"):
        exchanges({"conversation": [{"human": "a"}]})


@pytest.mark.parametrize("asked", ["Hi", [{"role": "user", "content": "Hi"}]])
def test_a_prompt_alone_is_a_part_that_never_learns(asked):
    found = prompt({"prompt": asked, "answer": 42})
    assert found.parts == {"prompt": Conversation((Message("user", "Hi", 0.0),))}
    assert "answer" not in found.used


def test_what_is_asked_and_its_input_can_be_told_apart_again():
    found = alpaca({"instruction": "Add.", "input": "2 and 3", "output": "5"})
    row, lost = Registry().writer("alpaca")(Example(found.parts, {}, {"id": "x", **found.meta}))
    assert (row, lost) == ({"id": "x", "instruction": "Add.", "input": "2 and 3", "output": "5"}, ())


def test_arguments_are_written_as_json_text():
    said = Conversation((Message("assistant", "", calls=(Call("add", {"a": "é"}, "c1"),)),))
    row, _ = Registry().writer("messages")(Example({"text": said}, {}, {"id": "x"}))
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": "é"}'}}
    assert row["messages"] == [{"role": "assistant", "content": "", "tool_calls": [call]}]


def test_weights_are_written_as_openai_does_and_spans_beside_them():
    said = chat("u: a").then(Message("assistant", "bcd", 0.0, (Span(0, 1, 1.0),)))
    row, lost = Registry().writer("messages")(Example({"text": said}, {}, {"id": "x"}))
    assert row["messages"][1] == {"role": "assistant", "content": "bcd", "weight": 0, "spans": [[0, 1, 1]]}
    assert isinstance(row["messages"][1]["weight"], int)
    assert lost == ()


@pytest.mark.parametrize(
    ("name", "example", "said"),
    [
        ("alpaca", chat("u: a", "u: b", "a: c"), "it takes questions and answers in turn; .* 'user user'"),
        ("alpaca", chat("u: a"), "it ends on an answer; the roles are 'user'"),
        ("exchanges", chat("a: a", "u: b"), "questions and answers in turn; the roles are 'assistant user'"),
        ("completion", chat("u: a"), "it needs a question and an answer"),
        (
            "text",
            chat("u: a", "a: b"),
            "it takes raw text, which no roles have shaped; the roles are 'user assistant'",
        ),
        ("sharegpt", Conversation((Message("text", "x"),)), "it has no turn for raw text"),
        ("pairs", chat("u: a", "a: b"), "it takes the parts chosen and rejected; there is text"),
        ("kto", chat("u: a", "a: b"), "it needs the value 'label'; the values are: none"),
    ],
)
def test_what_a_format_has_no_place_for_is_refused(name, example, said):
    with pytest.raises(DataError, match=said):
        Registry().writer(name)(Example({"text": example}, {}, {"id": "x"}))


def test_several_conversations_are_no_single_one():
    parts = {"text": (chat("u: a", "a: b"), chat("u: a", "a: c"))}
    with pytest.raises(
        DataError, match=r"it takes one conversation, the part 'text'; there is text \(several"
    ):
        Registry().writer("messages")(Example(parts, {}, {"id": "x"}))
