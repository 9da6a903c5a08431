"""Data from one format to another: what is written, what is said of it, and what is never written over."""

import json
from pathlib import Path

import pytest

from turnsmith.data import read
from turnsmith.errors import DataError, UsageError
from turnsmith.recipes.converting import convert

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "name": "Bo"}]
UNANSWERED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def file(tmp_path):
    def write(*rows):
        path = tmp_path / "in.jsonl"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    return write


def written(path):
    return [row for _, row in read.rows(Path(path))]


def test_what_was_read_why_what_was_written_and_what_was_lost(file, tmp_path):
    source = file({"messages": CHAT, "page": 1}, {"messages": [CHAT[0], {**CHAT[1], "weight": 0.5}]})
    found = convert(source, tmp_path / "out.json", to="alpaca")
    assert (found["format"], found["rows"], found["to"], found["written"]) == ("messages", 2, "alpaca", 2)
    assert found["why"] == "all 2 rows that were looked at have the column messages"
    assert found["lost"] == {"names of speakers": 2, "weights of messages": 1}
    assert written(tmp_path / "out.json") == [
        {"id": "in-1", "instruction": "Hi", "output": "Hello", "page": 1},
        {"id": "in-2", "instruction": "Hi", "output": "Hello"},
    ]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"conversations": [{"from": "human", "value": "Hi"}]}, "messages"),
        ({"instruction": "a", "chosen": "b", "rejected": "c"}, "pairs"),
        ({"messages": CHAT, "label": True}, "kto"),
        ({"prompt": "Hi"}, "prompt"),
    ],
)
def test_the_most_common_format_is_taken_where_none_is_said(file, tmp_path, row, name):
    assert convert(file(row), tmp_path / "out.jsonl")["to"] == name


def test_several_conversations_have_no_most_common_format(file, tmp_path):
    replies = [{"message_id": id, "text": "Hi", "role": "assistant"} for id in "bc"]
    tree = {"message_id": "a", "text": "Hi", "role": "prompter", "replies": replies}
    source = file({"message_tree_id": "t", "prompt": tree})
    with pytest.raises(
        UsageError, match=r"the parts text \(several conversations\): say which format .*--to"
    ):
        convert(source, tmp_path / "out.jsonl")
    assert convert(source, tmp_path / "out.jsonl", to="turnsmith")["written"] == 1


def test_a_row_that_the_format_has_no_place_for_stops_and_leaves_nothing(file, tmp_path):
    source = file({"messages": CHAT}, {"messages": UNANSWERED})
    said = (
        "in.jsonl, row 'in-2': it cannot be written as alpaca: it ends on an answer; .* --bad-rows quarantine"
    )
    with pytest.raises(DataError, match=said):
        convert(source, tmp_path / "out.json", to="alpaca")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_such_rows_may_be_set_aside_and_are_counted(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = file({"messages": CHAT}, {"messages": UNANSWERED}, {"messages": UNANSWERED})
    found = convert(source, tmp_path / "out.json", to="alpaca", bad_rows="quarantine")
    assert (found["rows"], found["written"]) == (3, 1)
    reason = "bad row: it cannot be written as alpaca: it ends on an answer; the roles are ..."
    assert found["bad_rows"] == {reason: 2}
    aside = [json.loads(line) for line in Path(found["bad_rows_in"]).read_text().splitlines()]
    assert [row["id"] for row in aside] == ["in-2", "in-3"]
    assert aside[0]["content"]["parts"]["text"] == UNANSWERED


def test_a_file_that_is_there_is_written_over_by_force_alone(file, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with pytest.raises(UsageError, match=r"out.jsonl is there already: name another file, or .*--force"):
        convert(file({"text": "a"}), out, to="text")
    assert out.read_text() == "mine"
    convert(file({"text": "a"}), out, to="text", force=True)
    assert written(out) == [{"id": "in-1", "text": "a"}]


def test_a_file_may_be_converted_onto_itself_by_force(file):
    source = file({"text": "a"}, {"text": "b"})
    convert(source, source, to="text", force=True)
    assert [row["text"] for row in written(source)] == ["a", "b"]


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".parquet", ".jsonl.gz"])
def test_messages_with_calls_come_back_from_every_kind_of_file(file, tmp_path, kind):
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = [*CHAT, {"role": "assistant", "content": "", "tool_calls": [call]}]
    source = file({"messages": said, "tools": [{"name": "add"}], "id": "x"}, {"messages": CHAT, "id": "y"})
    convert(source, tmp_path / f"out{kind}")
    convert(tmp_path / f"out{kind}", tmp_path / "again.jsonl")
    assert [row["messages"] for row in written(tmp_path / "again.jsonl")] == [said, CHAT]


@pytest.mark.parametrize(
    ("out", "to", "said"),
    [
        ("out.jsonl", "chitchat", "the format 'chitchat' is read and not written; written are alpaca, "),
        ("out.jsonl", "alpacca", "no format is called 'alpacca'; did you mean 'alpaca'"),
        ("out.csv", "turnsmith", "rows of turnsmith are nested, a table is not"),
        ("out.xls", "auto", "files of type '.xls' are not written"),
        ("", "auto", "is a folder|are not written"),
    ],
)
def test_what_cannot_be_meant_is_refused(file, tmp_path, out, to, said):
    with pytest.raises(UsageError, match=said):
        convert(file({"messages": CHAT}), tmp_path / out, to=to)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_rows_go_through_one_at_a_time(tmp_path):
    """What stands in memory does not grow with the file: 40 MB go through in less than 20."""
    import tracemalloc

    source = tmp_path / "in.jsonl"
    with source.open("w") as out:
        for _ in range(2000):
            out.write(json.dumps({"text": "x" * 20_000}) + "\n")
    tracemalloc.start()
    assert convert(source, tmp_path / "out.jsonl", to="text", format="text")["written"] == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
