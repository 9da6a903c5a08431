"""The quarantine: bad rows with reasons in a file, counted by reason; no file of a user is overwritten."""

import json
import pickle

import pytest

from turnsmith.data.quarantine import Id, Place, Quarantine, refuse
from turnsmith.errors import DataError, UsageError


def test_without_a_quarantine_the_error_names_file_line_row_and_reason():
    with pytest.raises(DataError, match=r"^x.jsonl, line 3, row 'one': no JSON$"):
        refuse("no JSON", Place("x.jsonl", 3), "{", None, "one")
    with pytest.raises(DataError, match=r"^x.parquet, row 3: bytes$"):
        refuse("bytes", Place("x.parquet", 3, "row"), "{", None)


def test_what_is_bad_is_written_as_it_was(tmp_path):
    bad = Quarantine(tmp_path / "new" / "bad-rows.jsonl")
    refuse("no JSON", Place("x.jsonl", 3), '{"a": "é"', bad)
    refuse("bytes", Place("x.parquet", 4, "row"), {"image": b"\x89PNG"}, bad)
    refuse("half a character", "x", {"a": "\ud83d"}, bad, "one")
    assert [json.loads(line) for line in bad.path.read_text("utf-8").splitlines()] == [
        {"file": "x.jsonl", "line": 3, "id": None, "reason": "no JSON", "content": '{"a": "é"'},
        {"file": "x.parquet", "row": 4, "id": None, "reason": "bytes", "content": {"image": "b'\\x89PNG'"}},
        {"file": "x", "id": "one", "reason": "half a character", "content": {"a": "\ud83d"}},
    ]


def test_rows_that_are_bad_for_one_reason_are_counted_together(tmp_path):
    bad = Quarantine(tmp_path / "bad-rows.jsonl")
    for number, role in enumerate(["bot", "narrator", "bot"]):
        refuse(f"messages[{number}] has the unknown role {role!r}", "x", {}, bad)
    refuse("no JSON", "x", {}, bad)
    assert bad.counts == {"bad row: messages[N] has the unknown role ...": 3, "bad row: no JSON": 1}


def test_an_earlier_quarantine_is_replaced_and_no_other_file(tmp_path):
    path = tmp_path / "bad-rows.jsonl"
    refuse("no JSON", "x", "{", Quarantine(path))
    refuse("no text", "x", "}", Quarantine(path))
    assert [json.loads(line)["reason"] for line in path.read_text().splitlines()] == ["no text"]
    path.write_text('{"messages": []}\n')
    with pytest.raises(UsageError, match=r"bad-rows.jsonl is there and holds no bad rows: name another"):
        Quarantine(path)
    assert path.read_text() == '{"messages": []}\n'


def test_an_id_is_a_text_that_knows_its_place_also_in_another_process():
    id = Id("one", Place("x.jsonl", 3))
    assert id == "one"
    assert pickle.loads(pickle.dumps(id)).place == ("x.jsonl", 3, "line")
    assert type(str(id)) is str
