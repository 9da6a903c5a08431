"""Rows to files: every kind of file gives the rows back, whole or not at all."""

import gzip
import json

import pytest
from pyarrow import parquet

from turnsmith.data import read, sink
from turnsmith.errors import DataError, UsageError

BOTH = [{"role": "user", "content": ""}, {"role": "assistant", "content": "ok"}]
ROWS = [
    {"id": "a", "messages": [{"role": "user", "content": "Zoë,\n\"x\"\t"}], "page": 1, "tags": ["x"]},
    {"id": "b", "messages": BOTH, "new": True},
]  # fmt: skip


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.jsonl.gz", "x.json.gz"])
def test_json_gives_every_row_back_exactly(tmp_path, name):
    assert sink.write(iter(ROWS), tmp_path / name) == 2
    assert [row for _, row in read.rows(tmp_path / name)] == ROWS
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.csv.gz"])
def test_cells_hold_text_and_json_text(tmp_path, name):
    sink.write(iter(ROWS), tmp_path / name)
    first, second = [row for _, row in read.rows(tmp_path / name)]
    assert list(first) == ["id", "messages", "page", "tags", "new"]
    assert json.loads(first["messages"]) == ROWS[0]["messages"]
    assert (first["page"], first["tags"], first["new"]) == ("1", '["x"]', "")
    assert (second["page"], second["new"]) == ("", "true")


def test_a_column_of_a_table_that_comes_late_is_there(tmp_path):
    """A header that is written with the first row would lose it."""
    rows = [{"id": str(number)} | ({"late": "x"} if number == 2499 else {}) for number in range(2500)]
    for name in ("x.csv", "x.parquet"):
        sink.write(iter(rows), tmp_path / name)
        assert [row["late"] for _, row in read.rows(tmp_path / name)][-2:] == [
            "" if name == "x.csv" else None,
            "x",
        ]


def test_parquet_has_messages_as_lists_of_objects_and_what_differs_as_json_text(tmp_path):
    path = tmp_path / "x.parquet"
    rows = [
        {**row, "mixed": value, "number": number}
        for row, value, number in zip(ROWS, ["a", 1], [1, 0.5], strict=True)
    ]
    sink.write(iter(rows), path)
    types = {field.name: str(field.type) for field in parquet.read_schema(path)}
    assert types["messages"] == "list<element: struct<role: string, content: string>>"
    assert (types["page"], types["new"], types["number"]) == ("int64", "bool", "double")
    found = [row for _, row in read.rows(path)]
    assert [row["messages"] for row in found] == [row["messages"] for row in ROWS]
    assert [(row["mixed"], row["tags"]) for row in found] == [("a", '["x"]'), ("1", None)]


def test_objects_with_other_keys_stay_apart_in_parquet(tmp_path):
    """As one type, the keys of each would be filled into all others with nothing."""
    rows = [
        {"tools": [{"a": 1}]},
        {"tools": [{"b": 2}]},
        {"tools": [{"a": {"c": 1}}]},
        {"tools": []},
        {"tools": None},
    ]
    sink.write(iter(rows), tmp_path / "x.parquet")
    found = [row["tools"] for _, row in read.rows(tmp_path / "x.parquet")]
    assert found == ['[{"a": 1}]', '[{"b": 2}]', '[{"a": {"c": 1}}]', "[]", None]


def test_what_is_packed_is_the_same_bytes_each_time(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        sink.write(iter(ROWS), tmp_path / name)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()
    assert json.loads(gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()[0]) == ROWS[0]


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.parquet", "x.jsonl.gz"])
def test_rows_that_fail_leave_the_old_file_and_nothing_beside_it(tmp_path, name):
    path = tmp_path / name
    path.write_text("old")

    def broken():
        yield ROWS[0]
        raise DataError("row 2 is broken")

    with pytest.raises(DataError, match="row 2 is broken"):
        sink.write(broken(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_row_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there is no row to write"):
        sink.write(iter([]), tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.arrow", "x.parquet.gz", "x", "x.xlsx"])
def test_other_kinds_of_files_are_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(UsageError, match=r"are not written; there is .jsonl, .json, .csv and .tsv"):
        sink.check(tmp_path / name)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        sink.check(tmp_path / "new" / "x.jsonl")
