"""Files to rows: every kind of file, every way in which one can be broken, named by place."""

import datetime as dt
import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

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
        UsageError, match=r"files of type '.xlsx' are not read; there is .jsonl, .json, .csv, .tsv, .parquet"
    ):
        rows(file("x.xlsx", "PK"))


def test_a_path_is_found_as_it_is_or_beside_the_recipe(file, tmp_path):
    path = file("x.jsonl", "{}")
    assert read.locate(str(path)) == path
    assert read.locate("x.jsonl", near=tmp_path) == path


def test_what_is_not_there_is_told_with_the_shipped_data(tmp_path):
    with pytest.raises(UsageError, match=r"no data at 'nothing.jsonl'.*shipped data are: .*chitchat"):
        read.locate("nothing.jsonl", near=tmp_path)


def test_the_fingerprint_is_that_of_the_bytes(file):
    # sha256 of "abc", FIPS 180-2, appendix B.1.
    assert (
        read.fingerprint(file("x", "abc"))
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


# ---------------------------------------------------------------------- packed files, tables, folders

ROWS = [{"text": "a", "score": 1}, {"text": "b\nc", "score": 2}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl.gz", "\n".join(map(json.dumps, ROWS))),
        ("x.json.gz", json.dumps(ROWS)),
        ("x.csv.gz", 'text,score\na,1\n"b\nc",2\n'),
        ("x.tsv.gz", 'text\tscore\na\t1\n"b\nc"\t2\n'),
    ],
)
def test_packed_files_are_read_as_unpacked_ones(file, name, content):
    packed, plain = file(name, gzip.compress(content.encode())), file(name.removesuffix(".gz"), content)
    assert rows(packed) == rows(plain)
    assert [row["text"] for _, row in rows(packed)] == ["a", "b\nc"]


@pytest.mark.parametrize("cut", [3, 40])
def test_a_torn_packed_file_is_an_error(file, cut):
    whole = gzip.compress("\n".join([json.dumps(ROWS[0])] * 999).encode())
    with pytest.raises(DataError, match=r"x.jsonl.gz is no whole gzip file"):
        rows(file("x.jsonl.gz", whole[:cut]))


def table(**columns):
    return pa.table(columns)


def write_parquet(path, made):
    parquet.write_table(made, path)


def write_arrow_file(path, made):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, made.schema) as writer:
        writer.write_table(made)


def write_arrow_stream(path, made):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)


TABLES = [("x.parquet", write_parquet), ("x.arrow", write_arrow_file), ("x.arrow", write_arrow_stream)]


@pytest.mark.parametrize(("name", "write"), TABLES)
def test_tables_give_rows_with_everything_nested_as_json_has_it(tmp_path, name, write):
    said = [[{"role": "user", "content": "Hi"}], [{"role": "user", "content": None}]]
    when = [dt.date(2026, 1, 2), None]
    write(tmp_path / name, table(messages=said, when=when, share=[0.5, 1.0]))
    assert rows(tmp_path / name) == [
        ("x-1", {"messages": said[0], "when": "2026-01-02", "share": 0.5}),
        ("x-2", {"messages": said[1], "when": None, "share": 1.0}),
    ]


def test_a_table_of_many_batches_is_numbered_through(tmp_path):
    write_parquet(tmp_path / "x.parquet", table(n=list(range(2500))))
    found = rows(tmp_path / "x.parquet")
    assert [(id, row["n"]) for id, row in found[998:1002]] == [
        ("x-999", 998), ("x-1000", 999), ("x-1001", 1000), ("x-1002", 1001)
    ]  # fmt: skip
    assert len(found) == 2500


@pytest.mark.parametrize(("name", "write"), TABLES)
def test_a_torn_table_is_an_error(tmp_path, name, write):
    write(tmp_path / name, table(n=list(range(5000))))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"{name} is no whole (parquet|arrow) file"):
        rows(tmp_path / name)


def test_bytes_in_a_table_are_an_error_that_names_row_and_column(tmp_path):
    write_parquet(tmp_path / "x.parquet", table(image=[b"\x89PNG"]))
    with pytest.raises(DataError, match=r"x.parquet, row 1, image: bytes cannot be read as text"):
        rows(tmp_path / "x.parquet")


def test_a_packed_table_is_refused(file):
    with pytest.raises(UsageError, match=r"x.parquet.gz: .parquet files are packed in themselves"):
        rows(file("x.parquet.gz", b""))


def test_of_a_folder_all_data_files_are_read_by_name(file, tmp_path):
    file("b.jsonl", '{"n": 3}')
    file("a.jsonl", '{"n": 1}\n{"n": 2}')
    file("README.md", "What is in here.")
    assert rows(tmp_path) == [("a-1", {"n": 1}), ("a-2", {"n": 2}), ("b-1", {"n": 3})]
    assert read.locate(str(tmp_path)) == tmp_path


def test_a_folder_without_data_is_refused(file, tmp_path):
    file("README.md", "Nothing.")
    with pytest.raises(UsageError, match=r"is a directory without a data file \(.jsonl, "):
        read.locate(str(tmp_path))


def test_the_hash_of_a_folder_depends_on_names_and_bytes_of_its_data_alone(file, tmp_path):
    file("a.jsonl", '{"n": 1}')
    first = read.fingerprint(tmp_path)
    file("README.md", "What is in here.")
    assert read.fingerprint(tmp_path) == first
    file("a.jsonl", '{"n": 2}')
    second = read.fingerprint(tmp_path)
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    assert len({first, second, read.fingerprint(tmp_path)}) == 3
