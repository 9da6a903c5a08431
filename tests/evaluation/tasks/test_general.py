"""The general prompts and items, and which option a reply names."""

import json
import re
from collections import Counter
from importlib.resources import files

import pytest

from turnsmith.evaluation.tasks.general import named_first

KINDS = {
    "facts", "instructions", "explain", "math", "lists", "code", "translation", "rewriting", "summary",
    "refusal", "creative", "planning", "constraints", "opinion", "chat",
}  # fmt: skip
TWO = {"yesno", "sentiment", "order"}  # kinds of two options


@pytest.mark.parametrize(
    ("reply", "options", "expected"),
    [
        ("It is Paris, not Rome.", ["Rome", "Paris"], 1),
        ("PARIS!", ["Rome", "Paris"], 1),
        ("Parisian food", ["Rome", "Paris"], None),
        ("", ["Rome", "Paris"], None),
        ("I do not know.", ["Rome", "Paris"], None),
        ("New York City", ["New York", "New York City"], 1),
        ("new   york,\ncity", ["New York", "New York City"], 1),
        ("York, New", ["New York", "York"], 1),
        ("5", ["15", "5"], 1),
        ("The answer is 15.", ["15", "5"], 0),
        ("no, yes", ["yes", "no"], 1),
        ("It's no_one", ["one", "two"], 0),
        ("fish-hook", ["hook", "fish hook"], 1),
        ("x", ["...", "x"], 1),
    ],
)  # fmt: skip
def test_the_option_that_is_named_first_as_whole_words(reply, options, expected):
    assert named_first(reply, options) == expected


def test_every_right_answer_names_itself():
    for row in rows("items.jsonl"):
        assert named_first(row["options"][row["answer"]], row["options"]) == row["answer"], row["id"]


def rows(name):
    text = files("turnsmith.evaluation").joinpath("general", name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def normal(text):
    """As evaluation/general/README.md says it."""
    return re.sub("[^a-z0-9]+", " ", text.lower()).strip()


def test_there_are_a_hundred_prompts_of_fifteen_kinds():
    prompts = rows("prompts.jsonl")
    assert len(prompts) == 100
    assert {row["kind"] for row in prompts} == KINDS
    assert all(set(row) == {"id", "kind", "prompt"} and row["prompt"].strip() for row in prompts)


@pytest.mark.parametrize("name", ["prompts.jsonl", "items.jsonl"])
def test_no_two_rows_are_the_same(name):
    assert len({row["id"] for row in rows(name)}) == len(rows(name))
    assert len({row["prompt"] for row in rows(name)}) == len(rows(name))


def test_every_item_has_options_that_differ_and_an_answer_among_them():
    for row in rows("items.jsonl"):
        assert set(row) == {"id", "kind", "prompt", "options", "answer"}, row["id"]
        assert len(row["options"]) == (2 if row["kind"] in TWO else 4), row["id"]
        assert len({normal(option) for option in row["options"]}) == len(row["options"]), row["id"]
        assert all(normal(option) for option in row["options"]), row["id"]
        assert row["answer"] in range(len(row["options"])), row["id"]


def test_right_answers_are_spread_evenly_over_the_places_of_each_kind():
    items = rows("items.jsonl")
    assert len(items) == 328
    for kind in {row["kind"] for row in items}:
        ones = [row for row in items if row["kind"] == kind]
        counts = Counter(row["answer"] for row in ones)
        sizes = [counts[place] for place in range(len(ones[0]["options"]))]
        assert max(sizes) - min(sizes) <= 1, (kind, sizes)


def test_the_kinds_are_those_of_the_readme():
    text = files("turnsmith.evaluation").joinpath("general", "README.md").read_text("utf-8")
    table = dict(re.findall(r"^\| (\w+) \| (\d+) \| [24] \|", text, re.MULTILINE))
    assert {kind: int(count) for kind, count in table.items()} == Counter(
        row["kind"] for row in rows("items.jsonl")
    )
