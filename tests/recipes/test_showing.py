"""Examples that are shown, and files that are divided."""

import json
from pathlib import Path

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.showing import REPEATED, chosen, divide


@pytest.fixture
def file(tmp_path):
    """Twelve chats of four people, three each."""
    rows = [
        {
            "id": f"c{n}",
            "people": f"person {n % 4}",
            "messages": [
                {"role": "user", "content": f"Question {n}?"},
                {"role": "assistant", "content": f"Answer {n}."},
            ],
        }
        for n in range(12)
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ids(examples):
    return [example.id for example in examples]


def test_the_first_three_are_shown_where_nobody_says_which(file):
    assert ids(chosen(file)) == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"ids": ["c7", "c2"]}, ["c2", "c7"]),
        ({"start": 11}, ["c10", "c11"]),
        ({"start": 3, "count": 2}, ["c2", "c3"]),
        ({"where": "QUESTION 1", "count": 9}, ["c1", "c10", "c11"]),
        ({"where": "question 1", "start": 3, "count": 1}, ["c10"]),
    ],
)
def test_they_are_chosen_by_id_words_and_number(file, asked, expected):
    assert ids(chosen(file, **asked)) == expected


def test_nothing_is_read_beyond_what_is_wanted(file):
    file.write_text(file.read_text() * 90 + "{broken\n")  # ids repeat from row 13 on, too
    assert ids(chosen(file, ["c3"], format="messages")) == ["c3"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"ids": ["c3", "c99"]}, "has no example 'c99'; its ids are like 'c0', 'c1', 'c2'"),
        ({"where": "nobody"}, "no example was found .*'nobody'"),
        ({"start": 13}, "no example was found from number 13 on"),
        ({"start": 0}, "--from and --count must be at least 1, not 0 and None"),
        ({"count": 0}, "--from and --count must be at least 1, not 1 and 0"),
    ],
)
def test_what_is_not_there_is_named(file, asked, said):
    with pytest.raises(UsageError, match=said):
        chosen(file, **asked)


def test_a_split_holds_out_people_and_says_how_many(file, tmp_path):
    made = divide(file, {"train": 0.75, "test": 0.25}, tmp_path / "out", by="people")
    assert {name: (split["examples"], split["values"]) for name, split in made["splits"].items()} == {
        "train": (9, 3), "test": (3, 1)
    }  # fmt: skip
    rows = {
        name: [json.loads(line) for line in Path(split["file"]).read_text().splitlines()]
        for name, split in made["splits"].items()
    }
    people = {name: {row["meta"]["people"] for row in ones} for name, ones in rows.items()}
    assert not people["train"] & people["test"]
    assert ids(chosen(tmp_path / "out" / "test.jsonl")) == [row["id"] for row in rows["test"]]


def test_the_same_seed_gives_the_same_split_and_another_another(file, tmp_path):
    def train(folder, seed):
        divide(file, {"train": 0.5, "test": 0.5}, tmp_path / folder, seed=seed)
        return (tmp_path / folder / "train.jsonl").read_text()

    assert train("a", 0) == train("b", 0) != train("c", 1)


def test_files_that_are_there_are_kept_unless_forced(file, tmp_path):
    (tmp_path / "test.jsonl").write_text("mine")
    shares = {"train": 0.5, "test": 0.5}
    with pytest.raises(UsageError, match=r"test.jsonl: there already; name another folder, or say --force"):
        divide(file, shares, tmp_path)
    assert (tmp_path / "test.jsonl").read_text() == "mine"
    assert not (tmp_path / "train.jsonl").exists()
    divide(file, shares, tmp_path, force=True)
    assert len((tmp_path / "test.jsonl").read_text().splitlines()) == 6


def test_a_file_is_never_divided_into_itself(file, tmp_path):
    before = file.read_text()
    with pytest.raises(UsageError, match=r"chats.jsonl would be written over while it is divided"):
        divide(file, {"chats": 0.5, "test": 0.5}, tmp_path, force=True)
    assert file.read_text() == before


def test_texts_that_are_on_both_sides_are_counted(tmp_path):
    said = [{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]}] * 10
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    made = divide(tmp_path / "x.jsonl", {"train": 0.7, "test": 0.3}, tmp_path / "out")
    assert made["counts"] == {REPEATED: 3}


def test_bad_rows_are_kept_beside_the_splits(file, tmp_path):
    file.write_text(file.read_text() + "{broken\n")
    made = divide(file, {"train": 0.5, "test": 0.5}, tmp_path / "out", bad_rows="quarantine")
    assert sum(made["counts"].values()) == 1
    assert made["bad_rows_in"] == str(tmp_path / "out" / "bad-rows.jsonl")
