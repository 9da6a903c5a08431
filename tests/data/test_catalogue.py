"""LLaMA-Factory's index: names of data sets, of columns and of roles; what cannot be meant is named."""

import json
from collections import Counter

import pytest

from turnsmith.data import formats, read
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import Registry
from turnsmith.testing import chat

TAGS = {"role_tag": "who", "content_tag": "says", "user_tag": "U", "assistant_tag": "A", "system_tag": "S"}
TURNS = [{"who": "S", "says": "s"}, {"who": "U", "says": "a"}, {"who": "A", "says": "b", "weight": 0}]


@pytest.fixture
def index(tmp_path):
    """Writes an index with one data set, `mine`, and its rows."""

    def write(rows, **said):
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        sets = {"mine": {"file_name": "rows.json", **said}, "other": {"hf_hub_url": "a/b"}}
        (tmp_path / "dataset_info.json").write_text(json.dumps(sets))
        return tmp_path / "dataset_info.json"

    return write


def examples(index, name="mine"):
    skipped = Counter()
    guessed, found = formats.stream(read.locate(f"{index}#{name}"), "auto", Registry(), skipped)
    return guessed.name, list(found)


def test_columns_get_the_names_that_formats_know(index):
    file = index(
        [{"question": "a", "answer": "b", "input": "no part of it", "page": 1}],
        columns={"prompt": "question", "response": "answer"},
    )
    name, (example,) = examples(file)
    assert (name, example.parts["text"]) == ("alpaca", chat("u: a", "a: b"))
    assert example.meta == {"input_": "no part of it", "page": 1, "id": "rows-1"}


def test_without_a_word_on_columns_they_have_the_usual_names(index):
    assert examples(index([{"instruction": "a", "output": "b"}]))[0] == "alpaca"
    assert examples(index([{"conversations": []}], formatting="sharegpt"))[0] == "sharegpt"


def test_a_folder_stands_for_the_index_in_it(index):
    file = index([{"instruction": "a", "output": "b"}])
    assert examples(file.parent) == examples(file)


@pytest.mark.parametrize(
    ("row", "said", "name"),
    [
        (
            {"q": "a", "c": "b", "r": "c"},
            {"ranking": True, "columns": {"prompt": "q", "chosen": "c", "rejected": "r"}},
            "pairs-alpaca",
        ),
        (
            {"q": "a", "c": "b", "ok": True},
            {"columns": {"prompt": "q", "response": "c", "kto_tag": "ok"}},
            "kto-alpaca",
        ),
        ({"words": "a"}, {"columns": {"prompt": "words"}}, "text"),
        ({"chat": []}, {"formatting": "openai", "columns": {"messages": "chat"}}, "messages"),
    ],
)
def test_the_format_follows_from_the_columns(index, row, said, name):
    assert examples(index([row], **said))[0] == name


def test_tags_give_turns_their_keys_and_roles(index):
    file = index([{"chat": TURNS}], formatting="sharegpt", columns={"messages": "chat"}, tags=TAGS)
    (example,) = examples(file)[1]
    said = [(m.role, m.content, m.weight) for m in example.parts["text"].messages]
    assert said == [("system", "s", None), ("user", "a", None), ("assistant", "b", 0.0)]


def test_tags_are_those_of_single_turns_too(index):
    columns = {"messages": "chat", "chosen": "chosen", "rejected": "rejected"}
    row = {"chat": TURNS[1:2], "chosen": {"who": "A", "says": "b"}, "rejected": {"who": "A", "says": "c"}}
    name, (example,) = examples(index([row], formatting="sharegpt", columns=columns, tags=TAGS))
    assert name == "pairs-sharegpt"
    assert example.parts["rejected"].messages[-1].content == "c"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"colums": {}}, "'mine': unknown key 'colums'; did you mean 'columns'"),
        ({"columns": {"responce": "b"}}, "'mine': unknown column 'responce'; did you mean 'response'"),
        ({"tags": {"role": "b"}}, "'mine': unknown tag 'role'"),
        (
            {"formatting": "vicuna"},
            "'mine': formatting must be one of alpaca, sharegpt, openai, not 'vicuna'",
        ),
        ({"num_samples": 5}, "'mine': num_samples is not read"),
        ({"file_name": "gone.json"}, "'mine': there is no file"),
        ({"columns": {"images": "images"}}, "'mine' has images: a model of text would learn answers to what"),
    ],
)
def test_what_cannot_be_meant_is_named(index, said, reason):
    with pytest.raises(UsageError, match=reason):
        read.locate(f"{index([{'instruction': 'a', 'output': 'b'}], **said)}#mine")


@pytest.mark.parametrize("reference", ["{}", "{}#"])
def test_the_names_are_listed_where_none_is_said(index, reference):
    file = index([{"text": "a"}])
    for path in (file, file.parent):
        with pytest.raises(
            UsageError, match=r"an index of 2 data sets: write .*#NAME, with a NAME of mine, other"
        ):
            read.locate(reference.format(path))


def test_a_name_that_is_not_there_is_answered_with_the_nearest(index):
    with pytest.raises(UsageError, match="has no data set 'mien'; did you mean 'mine'"):
        read.locate(f"{index([{'text': 'a'}])}#mien")


def test_what_lies_on_a_hub_is_not_looked_for(index):
    with pytest.raises(
        UsageError, match=r"'other' lies elsewhere \(hf_hub_url\): fetch it and give it a file_name"
    ):
        read.locate(f"{index([{'text': 'a'}])}#other")


def test_a_column_that_a_row_lacks_is_named(index):
    file = index([{"question": "a"}], columns={"prompt": "question", "response": "answer"})
    with pytest.raises(DataError, match=r"names the column 'answer', and the row has question"):
        examples(file)


def test_what_the_index_says_is_part_of_the_fingerprint(index):
    """Other columns make other examples of the same file: nothing made from the first may be taken again."""
    one = index([{"a": "a", "b": "b"}], columns={"prompt": "a", "response": "b"})
    before = read.fingerprint(read.locate(f"{one}#mine"))
    assert read.fingerprint(read.locate(f"{one}#mine")) == before
    index([{"a": "a", "b": "b"}], columns={"prompt": "b", "response": "a"})
    assert read.fingerprint(read.locate(f"{one}#mine")) != before


def test_an_index_that_is_none_is_named(tmp_path):
    (tmp_path / "dataset_info.json").write_text("[1]")
    with pytest.raises(DataError, match="an index must be an object"):
        read.locate(str(tmp_path / "dataset_info.json"))
