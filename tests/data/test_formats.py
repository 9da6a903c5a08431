"""Rows to examples: each format by hand, the guess, what is refused, and nothing lost on the way back."""

import json
from collections import Counter
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnsmith.data import formats
from turnsmith.data.quarantine import Id, Place, Quarantine
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import chat
from turnsmith.types import ROLES, Call, Conversation, Example, Message, Span

registry = cache(Registry)


def read(row, name, id="x-1"):
    (example,) = formats.examples([(id, row)], name, registry(), "x.jsonl", Counter())
    return example


def refused(row, name, said):
    with pytest.raises(DataError, match=said) as error:
        read(row, name)
    assert str(error.value).startswith("x.jsonl, row 'x-1'")


def texts(conversation):
    return [(m.role, m.content, m.weight) for m in conversation.messages]


# ----------------------------------------------------------------------------------------------- messages


def test_messages():
    row = {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": " there"}]},
            {"role": "assistant", "content": "Hello", "weight": 0, "name": "Bo"},
        ],
        "source": "web",
    }
    example = read(row, "messages")
    assert texts(example.parts["text"]) == [
        ("system", "Be brief.", None), ("user", "Hi there", None), ("assistant", "Hello", 0.0),
    ]  # fmt: skip
    assert example.parts["text"].messages[2].name == "Bo"
    assert example.meta == {"source": "web", "id": "x-1"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            {"role": "narrator", "content": "x"},
            r"messages\[0\] has the unknown role 'narrator'; known are system",
        ),
        ({"content": "x"}, r"messages\[0\] must be an object with `role` and `content`"),
        ("x", r"messages\[0\] must be an object"),
        ({"role": "user"}, r"messages\[0\]: the content must be text, not None"),
        ({"role": "user", "content": 3}, r"messages\[0\]: the content must be text, not 3"),
        (
            {"role": "user", "content": [{"type": "image_url"}]},
            r"messages\[0\].content\[0\]: an image must say its `url`",
        ),
        ({"role": "assistant", "content": "", "tool_calls": [{}]}, r"messages\[0\].tool_calls\[0\] must"),
        ({"role": "assistant", "content": "", "function_call": {"a": 1}}, "must name a function"),
        ({"role": "user", "content": "x", "weight": -1}, r"messages\[0\]: the weight must be a number"),
        (
            {"role": "user", "content": "x", "weight": True},
            "the weight must be a number of at least 0, not True",
        ),
        (
            {"role": "user", "content": "x", "weight": "1"},
            "the weight must be a number of at least 0, not '1'",
        ),
        ({"role": "user", "content": "x", "weight": float("nan")}, "the weight must be a number"),
        ({"role": ["user"], "content": "x"}, "unknown role"),
    ],
)
def test_messages_that_are_none_are_named_by_place(message, said):
    refused({"messages": [message]}, "messages", said)


@pytest.mark.parametrize("value", [None, "Hi", {"role": "user"}, "[not json", 3])
def test_what_is_no_list_of_messages_is_refused(value):
    refused({"messages": value}, "messages", "messages must be a list of messages")


def test_a_column_that_is_missing_is_named():
    refused({"text": "x"}, "messages", r"is no messages row \(KeyError: 'messages'\)")


def test_messages_may_be_written_into_a_cell_of_a_table():
    cell = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]'
    assert read({"messages": cell}, "messages").parts["text"] == chat("u: Hi", "a: Hello")


# ---------------------------------------------------------------------------------------- other formats


def test_sharegpt():
    row = {
        "system": "Be brief.",
        "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello", "weight": 0.5}],
    }
    assert texts(read(row, "sharegpt").parts["text"]) == [
        ("system", "Be brief.", None), ("user", "Hi", None), ("assistant", "Hello", 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ({"from": "narrator", "value": "x"}, r"conversations\[0\] has the unknown role 'narrator'"),
        ({"from": "function_call", "value": "x"}, r"conversations\[0\]: the arguments are no JSON"),
        ({"from": "function_call", "value": "{}"}, r"conversations\[0\]: a call must have `name`"),
        ({"value": "x"}, r"conversations\[0\] must have `from` and `value`"),
        ({"from": "human", "value": None}, r"conversations\[0\]: the content must be text"),
    ],
)
def test_sharegpt_turns_that_are_none_are_named_by_place(turn, said):
    refused({"conversations": [turn]}, "sharegpt", said)


def test_alpaca():
    row = {
        "instruction": "Add.",
        "input": "2 and 3",
        "output": "5",
        "system": "You count.",
        "history": [["Hi", "Hello"]],
    }
    expected = chat("s: You count.", "u: Hi", "a: Hello", "u: Add.\n2 and 3", "a: 5")
    assert read(row, "alpaca").parts["text"] == expected
    plain = read({"instruction": "Add.", "input": "", "output": "5"}, "alpaca").parts["text"]
    assert plain == chat("u: Add.", "a: 5")


def test_alpaca_history_must_be_pairs():
    refused({"instruction": "a", "output": "b", "history": [["x"]]}, "alpaca", r"history\[0\] must be a pair")


def test_of_a_completion_only_the_completion_learns():
    text = read({"prompt": "Hi", "completion": "Hello"}, "completion").parts["text"]
    assert texts(text) == [("user", "Hi", 0.0), ("assistant", "Hello", None)]
    asked = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    row = {"prompt": asked, "completion": [{"role": "assistant", "content": "d"}]}
    text = read(row, "completion").parts["text"]
    assert texts(text) == [
        ("user", "a", 0.0), ("assistant", "b", 0.0), ("user", "c", 0.0), ("assistant", "d", None),
    ]  # fmt: skip


@pytest.mark.parametrize("answer", ['[{"name": "Ada"}]', "[{", "[1, 2]", '[{"role": 3}'])
def test_a_completion_in_json_stays_text(answer):
    text = read({"prompt": "List them.", "completion": answer}, "completion").parts["text"]
    assert text.messages[1].content == answer


def test_raw_text_is_one_message_without_a_role_of_a_chat():
    assert texts(read({"text": "Once upon"}, "text").parts["text"]) == [("text", "Once upon", None)]


# -------------------------------------------------------------------------------------------------- pairs


def messages(conversation):
    return [{"role": m.role, "content": m.content} for m in conversation.messages]


def test_pairs_after_a_prompt():
    example = read({"prompt": "Hi", "chosen": "Hello", "rejected": "No", "score": 3}, "pairs")
    assert texts(example.parts["chosen"]) == [("user", "Hi", 0.0), ("assistant", "Hello", None)]
    assert texts(example.parts["rejected"]) == [("user", "Hi", 0.0), ("assistant", "No", None)]
    assert example.meta == {"score": 3, "id": "x-1"}


def test_what_two_whole_conversations_share_does_not_learn():
    row = {
        "chosen": messages(chat("u: a", "a: b", "u: c", "a: d")),
        "rejected": messages(chat("u: a", "a: b", "u: c", "a: e")),
    }
    parts = read(row, "pairs").parts
    start = [("user", "a", 0.0), ("assistant", "b", 0.0), ("user", "c", 0.0)]
    assert texts(parts["chosen"]) == [*start, ("assistant", "d", None)]
    assert texts(parts["rejected"]) == [*start, ("assistant", "e", None)]


@pytest.mark.parametrize("prompt", ["Hi", [{"role": "user", "content": "Hi"}]])
def test_a_prompt_that_the_conversations_repeat_is_there_once(prompt):
    row = {
        "prompt": prompt,
        "chosen": messages(chat("u: Hi", "a: b")),
        "rejected": messages(chat("u: Hi", "a: c")),
    }
    parts = read(row, "pairs").parts
    assert texts(parts["chosen"]) == [("user", "Hi", 0.0), ("assistant", "b", None)]
    assert texts(parts["rejected"]) == [("user", "Hi", 0.0), ("assistant", "c", None)]


def test_a_prompt_behind_a_shared_system_message_is_there_once():
    whole = [messages(chat("s: Be kind.", "u: Hi", f"a: {answer}")) for answer in "bc"]
    chosen = read({"prompt": "Hi", "chosen": whole[0], "rejected": whole[1]}, "pairs").parts["chosen"]
    assert texts(chosen) == [("system", "Be kind.", 0.0), ("user", "Hi", 0.0), ("assistant", "b", None)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"chosen": "a", "rejected": "b"}, "share no start and there is no prompt"),
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "do not differ"),
        (
            {"chosen": messages(chat("u: a", "a: b")), "rejected": messages(chat("u: a"))},
            "one only continues the other",
        ),
    ],
)
def test_pairs_that_are_none_are_refused(row, said):
    refused(row, "pairs", said)


# ----------------------------------------------------------------------------------------------- chitchat


def said(*lines):
    return [[{"sender": line[0], "text": line[2:], "timestamp": 0} for line in turn] for turn in lines]


def test_chitchat_joins_what_one_person_writes_in_a_row():
    row = {
        "messages": said(["b Hi", "b  there "], ["a  "], ["b ?"], ["a Hello"], ["b Bye"]),
        "start": 1,
        "end": 2,
    }
    example = read(row, "chitchat")
    assert example.parts["text"] == chat("u: Hi\nthere\n?", "a: Hello", "u: Bye")
    assert example.meta == {"start": 1, "end": 2, "people": ["a", "b"], "id": "x-1"}


@pytest.mark.parametrize(("lines", "count"), [([["a Hi"]], 1), ([["a Hi"], ["b Yo"], ["c Hey"]], 3), ([], 0)])
def test_chitchat_needs_two_people_and_counts_the_others(lines, count):
    row, skipped = {"messages": said(*lines), "start": 0}, Counter()
    assert list(formats.examples([("x", row)], "chitchat", registry(), "x.json", skipped)) == []
    assert skipped == {f"{count} senders instead of two": 1}


# ------------------------------------------------------------------------------------------------- ids


def test_ids_must_differ():
    rows = [("one", {"text": "a"}), ("two", {"text": "b"}), ("one", {"text": "c"})]
    with pytest.raises(DataError, match=r"x.jsonl, row 'one': an earlier row has the id 'one' too; ids must"):
        list(formats.examples(rows, "text", registry(), "x.jsonl", Counter()))


# ------------------------------------------------------------------------------------------- quarantine


def test_bad_rows_go_to_the_quarantine_with_place_and_reason_and_the_others_on(tmp_path):
    place = Place("y.jsonl", 7)
    rows = [
        ("one", {"text": "a"}),
        (Id("two", place), {"text": 3}),
        ("one", {"text": "b"}),
        ("d", {"text": "c"}),
    ]
    bad = Quarantine(tmp_path / "bad-rows.jsonl")
    found = formats.examples(rows, "text", registry(), "x.jsonl", Counter(), bad)
    assert [(example.id, example.parts["text"].messages[0].content) for example in found] == [
        ("one", "a"), ("d", "c")
    ]  # fmt: skip
    assert [json.loads(line) for line in bad.path.read_text().splitlines()] == [
        {"file": "y.jsonl", "line": 7, "id": "two", "reason": "text: the content must be text, not 3",
         "content": {"text": 3}},
        {"file": "x.jsonl", "id": "one", "reason": "an earlier row has the id 'one' too; ids must differ",
         "content": {"text": "b"}},
    ]  # fmt: skip
    assert bad.counts == {
        "bad row: text: the content must be text, not N": 1,
        "bad row: an earlier row has the id ... too; ids must differ": 1,
    }


MIXED = [{"text": "a"}, {"text": "b", "source": "web"}, {"prompt": "c", "completion": "d"}, {"text": "e"}]


def mixed(tmp_path, rows):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_with_a_quarantine_the_format_is_that_of_most_rows_and_the_others_are_bad(tmp_path):
    bad = Quarantine(tmp_path / "bad-rows.jsonl")
    found, name, _ = formats.from_file(mixed(tmp_path, MIXED), "auto", registry(), bad)
    assert (name, [example.id for example in found]) == ("text", ["x-1", "x-2", "x-4"])
    (taken,) = [json.loads(line) for line in bad.path.read_text().splitlines()]
    assert (taken["line"], taken["content"]) == (3, MIXED[2])
    assert taken["reason"].startswith("is no text row (KeyError: 'text')")


def test_where_no_kind_of_rows_is_the_most_the_format_is_asked_for(tmp_path):
    path = mixed(tmp_path, [MIXED[0], MIXED[2]])
    for bad in (None, Quarantine(tmp_path / "bad-rows.jsonl")):
        with pytest.raises(DataError, match=r"columns \(none in common\): no known format has them"):
            formats.from_file(path, "auto", registry(), bad)


def test_examples_are_made_one_at_a_time():
    def rows():
        yield "one", {"text": "a"}
        raise AssertionError("the second row was asked for too early")

    assert next(formats.examples(rows(), "text", registry(), "x.jsonl", Counter())).id == "one"


# ------------------------------------------------------------------------------------------- guessing


def guess(*rows):
    return formats.guess(rows, registry().entries("format")).name


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"messages": [], "id": 1}, "messages"),
        ({"conversations": []}, "sharegpt"),
        ({"conversation": [], "model": ""}, "sharegpt"),
        ({"instruction": "", "input": "", "output": ""}, "alpaca"),
        ({"prompt": "", "completion": ""}, "completion"),
        ({"prompt": "", "chosen": "", "rejected": ""}, "pairs"),
        ({"text": ""}, "text"),
        ({"messages": [], "start": 0, "end": 0}, "chitchat"),
        ({"parts": {}, "values": {}, "meta": {}}, "turnsmith"),
        ({"text": "", "instruction": "", "output": ""}, "alpaca"),  # two columns say more than one
    ],
)
def test_a_format_is_known_by_its_columns(row, name):
    assert guess(row) == name


def test_only_columns_that_all_rows_have_count():
    assert guess({"text": "", "prompt": "", "completion": ""}, {"text": ""}) == "text"


def test_columns_that_fit_no_format_are_named():
    with pytest.raises(
        DataError, match=r"columns hint, reply: no known format has them. Say which: alpaca, .*text"
    ):
        guess({"hint": "", "reply": ""})


def test_columns_that_fit_two_formats_are_no_guess():
    tie = r"messages \(by column messages\) and text \(by column text\) fit equally well. Say which"
    with pytest.raises(DataError, match=f"columns messages, text: {tie}"):
        guess({"messages": [], "text": ""})


def test_rows_without_a_common_column_are_told_so():
    with pytest.raises(DataError, match=r"columns \(none in common\): no known format"):
        guess({"text": ""}, {"messages": []})


# --------------------------------------------------------------------------------------- nothing is lost

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
weights = st.none() | st.floats(0, 10)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
spans = st.builds(Span, st.integers(0, 5), st.integers(5, 9), st.floats(0, 2))
tuples = st.none() | st.lists(st.integers(0, 500), max_size=4).map(tuple)
said_once = st.builds(
    Message, st.sampled_from(ROLES), words, weights, st.lists(spans, max_size=2).map(tuple),
    st.dictionaries(words, values, max_size=2), tuples, st.none() | st.lists(numbers, max_size=4).map(tuple),
)  # fmt: skip
conversations = st.lists(said_once, max_size=3).map(lambda ones: Conversation(tuple(ones)))
parts = st.dictionaries(
    words, conversations | st.lists(conversations, min_size=1, max_size=3).map(tuple), max_size=3
)
meta = st.dictionaries(words.filter(lambda key: key != "id"), values, max_size=2)


@settings(max_examples=100, deadline=None)
@given(parts, st.dictionaries(words, numbers, max_size=2), meta)
def test_an_example_comes_back_as_it_was(its_parts, its_values, its_meta):
    example = Example(its_parts, its_values, {**its_meta, "id": "x-1"})
    row = json.loads(json.dumps(formats.to_row(example), ensure_ascii=False))
    assert read(row, "turnsmith") == example


@pytest.mark.parametrize(
    "row",
    [
        {"parts": {"text": [{"role": "user"}]}, "meta": {}},
        {"parts": {"text": 3}, "meta": {}},
        {"parts": {}, "meta": {}, "values": {"rating": "high"}},
        {"parts": {}, "meta": {}, "values": [1]},
    ],
)
def test_a_row_of_our_own_that_is_broken_is_named(row):
    refused(row, "turnsmith", "is no turnsmith row")


def test_calls_tools_names_and_thinking_are_kept():
    schema = {"type": "function", "function": {"name": "add", "parameters": {}}}
    said = Conversation(
        (
            Message("user", "1 + 1?", name="Ada"),
            Message("assistant", "", calls=(Call("add", {"a": 1, "b": 1}, "c1"),), thinking="A sum."),
            Message("tool", "2", call_id="c1"),
        ),
        (schema,),
    )
    kept = Example({"text": said, "replies": (said, said)}, {}, {"id": "x"})
    assert read(json.loads(json.dumps(formats.to_row(kept))), "turnsmith", "x") == kept


def test_sharegpt_calls_and_observations():
    row = {
        "conversations": [
            {"from": "human", "value": "1 + 2?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "3."},
        ],
        "tools": '[{"name": "add"}]',
    }
    found = read(row, "sharegpt").parts["text"]
    assert [message.role for message in found.messages] == ["user", "assistant", "tool", "assistant"]
    assert found.messages[1].calls == (Call("add", {"a": 1, "b": 2}),)
    assert found.tools == ({"name": "add"},)
