"""Files to rows: every kind of file, every way in which one can be broken, named by place."""

import datetime as dt
import gzip
import json
import re

import pyarrow as pa
import pytest
from pyarrow import parquet

from turnsmith.data import lines, read
from turnsmith.data.quarantine import Quarantine
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
        ("x.jsonl", '{"a": 1}\n[1]\n', r"x.jsonl, line 2: a row must be an object.*not \[1\]"),
        ("x.jsonl", "", "x.jsonl holds no rows"),
        ("x.jsonl", "\n\n", "x.jsonl holds no rows"),
        ("x.jsonl", b'{"a": "\xff"}\n', r"x.jsonl, line 1: no UTF-8 text: '\\xff' at byte offset 7 of"),
        ("x.json", "", "x.json: no JSON"),
        ("x.json", "[]", "x.json holds no rows"),
        ("x.json", "3", "expected a list of rows"),
        ("x.json", '{"a": 1}', "expected a list of rows, or an object of named rows"),
        ("x.json", '{"a": 1}\n{"a": 2}\n', "one JSON object a line.*call it .jsonl"),
        ("x.json", b'["\xff"]', r"x.json, line 1: no UTF-8 text: '\\xff' at byte offset 2 of the file"),
        ("x.csv", "", "x.csv holds no rows"),
        ("x.csv", "a,b\n", "x.csv holds no rows"),
        ("x.csv", "a,b\n1,2\n3\n", "x.csv, line 3: more or fewer cells than the header has columns"),
        ("x.csv", "a,b\n1,2,3\n", "x.csv, line 2: more or fewer cells"),
        ("x.csv", 'a,b\n1,"2\n', "x.csv, line 2: unexpected end of data: a quote opens in this row"),
        ("x.csv", b"a,b\n1,\xff\n", r"x.csv, line 2: no UTF-8 text: '\\xff' at byte offset 2 of the row"),
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


# ------------------------------------------------------------------------------------ what is bad in it


def quarantined(path):
    """The rows that are left, and place and reason of those that are not."""
    bad = Quarantine(path.parent / "out" / "bad-rows.jsonl")
    found = list(read.rows(path, bad))
    taken = [json.loads(line) for line in bad.path.read_text("utf-8").splitlines()]
    assert bad.counts.total() == len(taken)
    return found, [(one.get("line", one.get("row")), one["reason"], one["content"]) for one in taken]


def test_a_broken_line_is_named_and_all_others_are_read(file):
    lines = ['{"a": 1}'] * 50_000
    lines[48_212] = '{"a": 1'
    path = file("x.jsonl", "\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"x.jsonl, line 48213: no JSON \(Expecting ',' delimiter at char"):
        rows(path)
    found, taken = quarantined(path)
    assert len(found) == 49_999
    assert taken == [(48_213, "no JSON (Expecting ',' delimiter at character 8)", '{"a": 1')]


@pytest.mark.parametrize(
    ("line", "reason", "content"),
    [
        # The first line has 9 bytes, and before the byte there are 6 in the second.
        (b'{"a":"\xe9"}', "no UTF-8 text: '\\xe9' at byte offset 6 of the line, 15 of the", '{"a":"\\xe9"}'),
        (b'{"a": \0\0}', "holds 2 NUL bytes: the file was torn while it was written", '{"a": \0\0}'),
        (b'{"a": "\\ud83d"}', "holds half of a surrogate pair: the text was cut", '{"a": "\\ud83d"}'),
        (b'{"a": 1} {"a": 2}', "no JSON (Extra data at character 10)", '{"a": 1} {"a": 2}'),
        (b"[" * 100_000, "no JSON (maximum recursion depth exceeded", "[" * 100_000),
        (b"1" * 5000, "no JSON (Exceeds the limit (4300 digits)", "1" * 5000),
        (b'{"a": "b', "no JSON (Unterminated string starting at character 7)", '{"a": "b'),
        (b"[1]", "a row must be an object with named columns, not [1]", [1]),
        (b"[", "no JSON (Expecting value at character 2); if the file is one JSON value, call it .json", "["),
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_a_line_it_is_the_only_one_lost(file, line, reason, content):
    path = file("x.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(DataError, match=re.escape(f"x.jsonl, line 2: {reason}")):
        rows(path)
    found, ((number, said, kept),) = quarantined(path)
    assert found == [("x-1", {"a": 1}), ("x-3", {"a": 3})]
    assert (number, kept) == (2, content)
    assert said.startswith(reason)


def test_both_halves_of_a_surrogate_pair_are_one_character(file):
    assert rows(file("x.jsonl", r'{"a": "\ud83d\ude00"}')) == [("x-1", {"a": "\N{GRINNING FACE}"})]
    assert rows(file("x.json", r'[{"a": "\ud83d\ude00"}]')) == [("x-1", {"a": "\N{GRINNING FACE}"})]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.jsonl.gz"])
def test_other_encodings_are_known_by_their_mark_and_told_the_way_out(file, name, encoding):
    mark = "\ufeff" if encoding.endswith("e") else ""  # without an order, Python writes the mark itself
    content = f'{mark}{{"a": 1}}\n'.encode(encoding)
    family = encoding[:6].upper()
    path = file(name, gzip.compress(content) if name.endswith("gz") else content)
    for bad in (None, Quarantine(path.parent / "bad-rows.jsonl")):
        with pytest.raises(DataError, match=f"{name} is {family} text.*iconv -f {family} -t UTF-8 OLD > NEW"):
            list(read.rows(path, bad))


def test_a_row_of_10_mb_is_read(file):
    long = "word " * 2_000_000
    assert rows(file("x.jsonl", json.dumps({"a": long}))) == [("x-1", {"a": long})]
    assert rows(file("x.csv", f"a,b\n{long},1\n")) == [("x-2", {"a": long, "b": "1"})]


def test_of_a_json_file_no_row_can_be_set_aside(file):
    path = file("x.json", '[{"a": 1}, {"a": ]')
    with pytest.raises(
        DataError, match=r"x.json: no JSON \(Expecting value: line 1 column 18 \(char 17\)\)$"
    ):
        rows(path)
    with pytest.raises(
        DataError, match=r"x.json: no JSON.*\. a .json file is one value.*a row a line, .jsonl"
    ):
        quarantined(path)


def test_rows_of_json_that_are_none_are_set_aside(file):
    found, taken = quarantined(file("x.json", r'[{"a": 1}, 3, {"a": "\ud83d"}]'))
    assert found == [("x-1", {"a": 1})]
    assert [(number, content) for number, _, content in taken] == [(2, 3), (3, {"a": "\ud83d"})]


def test_two_rows_of_one_name_are_an_error_since_json_would_keep_the_last(file):
    with pytest.raises(DataError, match=r"x.json: one object has the name 'one' twice; names must differ"):
        rows(file("x.json", '{"one": {"a": 1}, "two": {"a": 2}, "one": {"a": 3}}'))


def test_bad_rows_of_a_table_of_text_are_set_aside_with_their_lines(file):
    text = b'a,b\n1,2\n3\n"4\n",\xff\n5,"6"7\n8,\0\n9,10\n'
    found, taken = quarantined(file("x.csv", text))
    assert found == [("x-2", {"a": "1", "b": "2"}), ("x-8", {"a": "9", "b": "10"})]
    assert [(number, content) for number, _, content in taken] == [
        (3, "3"), (4, '"4\n",\\xff'), (6, '5,"6"7'), (7, "8,\0")
    ]  # fmt: skip
    assert taken[0][1] == "more or fewer cells than the header has columns (1 instead of 2)"
    assert taken[1][1].startswith("no UTF-8 text: '\\xff' at byte offset 5 of the row")


def test_an_open_quote_is_an_error_also_with_a_quarantine_for_it_takes_all_rows_after_it(file):
    path = file("x.csv", 'a,b\n1,2\n3,"4\n5,6\n')
    with pytest.raises(DataError, match=r"x.csv, line 3: unexpected end of data: a quote opens in this row"):
        quarantined(path)


def test_where_all_rows_are_bad_it_says_where_they_are(file):
    with pytest.raises(
        DataError, match=r"x.jsonl holds no rows: the 2 that are there are all bad, see .*rows"
    ):
        quarantined(file("x.jsonl", "{\n}\n"))


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


def test_a_column_whose_name_is_no_text_makes_a_broken_file(file, tmp_path):
    write_parquet(tmp_path / "sound.parquet", table(name=["a"]))
    sound = (tmp_path / "sound.parquet").read_bytes()
    with pytest.raises(DataError, match=r"x.parquet is no whole parquet file .*codec can't decode"):
        rows(file("x.parquet", sound.replace(b"name", b"n\xffme")))


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
    with pytest.raises(DataError, match=r"x.parquet, row 1: image: bytes cannot be read as text"):
        rows(tmp_path / "x.parquet")


def test_bad_rows_of_a_table_are_set_aside_by_number(tmp_path):
    texts = pa.array([b"a", b"\xff", b"c"]).cast(pa.binary()).view(pa.string())
    images = pa.array([None, None, b"\x89PNG"])
    write_parquet(tmp_path / "x.parquet", pa.table({"text": texts, "image": images}))
    found, taken = quarantined(tmp_path / "x.parquet")
    assert found == [("x-1", {"text": "a", "image": None})]
    assert [(number, reason[:25]) for number, reason, _ in taken] == [
        (2, "text that is no UTF-8 ('u"), (3, "image: bytes cannot be re")
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "cut"), [("x.jsonl.gz", 40), ("x.parquet", 100)])
def test_what_is_torn_is_an_error_also_with_a_quarantine_for_nobody_knows_what_is_lost(tmp_path, name, cut):
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(b'{"a": 1}\n' * 999))
    else:
        write_parquet(tmp_path / name, table(n=list(range(5000))))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:cut])
    with pytest.raises(DataError, match=f"{name} is no whole (gzip|parquet) file"):
        quarantined(tmp_path / name)


def test_a_quarantine_beside_the_data_is_not_read_as_data(file, tmp_path):
    file("a.jsonl", '{"n": 1}')
    file("a.bad-rows.jsonl", "{}")
    assert rows(tmp_path) == [("a-1", {"n": 1})]


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


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz", "x.csv.gz"])
def test_a_file_that_unpacks_without_end_is_refused_before_memory_is_full(tmp_path, monkeypatch, name):
    monkeypatch.setattr(lines, "UNPACKED", 10_000_000)
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"a" * 12_000_000))  # a thousand times as much as it is
    with pytest.raises(DataError, match=f"{name} becomes more than 10,000,000 bytes, 200 times its own"):
        list(read.rows(path))
    monkeypatch.setattr(lines, "RATIO", 2000)
    with pytest.raises(DataError, match=r"no JSON|holds no rows"):
        list(read.rows(path))
