"""Files to rows: every kind of file, every way in which one can be broken, named by place."""

import json

import pytest

from turnsmith.data import read
from turnsmith.errors import DataError, UsageError


@pytest.fixture
def file(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(path):
    return list(read.rows(path))


def test_json_lines_are_numbered_by_line(file):
    path = file("chats.jsonl", '{"a": 1}\n\n{"a": 2}\n')
    assert rows(path) == [("chats-1", {"a": 1}), ("chats-3", {"a": 2})]


def test_a_list_of_rows_is_numbered(file):
    assert rows(file("x.json", '[{"a": 1}, {"a": 2}]')) == [("x-1", {"a": 1}), ("x-2", {"a": 2})]


def test_named_rows_keep_their_names(file):
    assert rows(file("x.json", '{"one": {"a": 1}, "two": {"a": 2}}')) == [
        ("one", {"a": 1}),
        ("two", {"a": 2}),
    ]


def test_a_table_gives_its_cells_as_text(file):
    path = file("x.csv", 'a,b\n1,"two\nlines"\n3,"four, five"\n')
    assert rows(path) == [("x-3", {"a": "1", "b": "two\nlines"}), ("x-4", {"a": "3", "b": "four, five"})]


def test_tabs_part_the_cells_of_tsv(file):
    assert rows(file("x.tsv", "a\tb\n1,2\t3\n")) == [("x-2", {"a": "1,2", "b": "3"})]


def test_a_row_has_its_own_id_if_it_says_one(file):
    path = file("x.jsonl", '{"id": "first"}\n{"id": 7}\n{"id": null}\n')
    assert [name for name, _ in rows(path)] == ["first", "7", "x-3"]


@pytest.mark.parametrize(
    ("name", "text"), [("x.jsonl", '{"a": "é"}'), ("x.json", '[{"a": "é"}]'), ("x.csv", "a\né\n")]
)
def test_a_byte_order_mark_is_no_part_of_the_data(file, name, text):
    ((_, row),) = rows(file(name, b"\xef\xbb\xbf" + text.encode()))
    assert row == {"a": "é"}


def test_line_separators_inside_a_text_do_not_end_a_row(file):
    said = "one\u2028two\u0085three\x0cfour"
    assert rows(file("x.jsonl", json.dumps({"a": said}, ensure_ascii=False) + "\n")) == [("x-1", {"a": said})]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", '{"a": 1}\n{"a": \n', r"x.jsonl, line 2: no JSON"),
        ("x.jsonl", '{"a": 1}\n[1]\n', r"x.jsonl, row 2: a row must be an object.*not \[1\]"),
        ("x.jsonl", "", "x.jsonl holds no rows"),
        ("x.jsonl", "\n\n", "x.jsonl holds no rows"),
        ("x.jsonl", b'{"a": "\xff"}\n', "x.jsonl is not UTF-8 text"),
        ("x.json", "", "x.json: no JSON"),
        ("x.json", "[]", "x.json holds no rows"),
        ("x.json", "3", "expected a list of rows"),
        ("x.json", '{"a": 1}', "expected a list of rows, or an object of named rows"),
        ("x.json", '{"a": 1}\n{"a": 2}\n', "one JSON object a line.*call it .jsonl"),
        ("x.json", b'["\xff"]', "x.json is not UTF-8 text"),
        ("x.csv", "", "x.csv holds no rows"),
        ("x.csv", "a,b\n", "x.csv holds no rows"),
        ("x.csv", "a,b\n1,2\n3\n", "x.csv, line 3: more or fewer cells than the header has columns"),
        ("x.csv", "a,b\n1,2,3\n", "x.csv, line 2: more or fewer cells"),
        ("x.csv", 'a,b\n1,"2\n', "x.csv, after line 1: unexpected end of data"),
        ("x.csv", b"a,b\n1,\xff\n", "x.csv is not UTF-8 text"),
        ("x.csv", "a,a\n1,2\n", "x.csv: two columns are called 'a'"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named_by_place(file, name, text, said):
    with pytest.raises(DataError, match=said):
        rows(file(name, text))


def test_other_endings_are_refused_with_those_that_are_read(file):
    with pytest.raises(
        UsageError, match=r"files of type '.parquet' are not read; there is .jsonl, .json, .csv, .tsv"
    ):
        rows(file("x.parquet", "PAR1"))


def test_a_path_is_found_as_it_is_or_beside_the_recipe(file, tmp_path):
    path = file("x.jsonl", "{}")
    assert read.locate(str(path)) == path
    assert read.locate("x.jsonl", near=tmp_path) == path


def test_what_is_not_there_is_told_with_the_shipped_data(tmp_path):
    with pytest.raises(UsageError, match=r"no data at 'nothing.jsonl'.*shipped data are: .*chitchat"):
        read.locate("nothing.jsonl", near=tmp_path)


def test_a_directory_is_no_data(tmp_path):
    with pytest.raises(UsageError, match="is a directory: name a file in it"):
        read.locate(str(tmp_path))


def test_the_fingerprint_is_that_of_the_bytes(file):
    # sha256 of "abc", FIPS 180-2, appendix B.1.
    assert (
        read.fingerprint(file("x", "abc"))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
