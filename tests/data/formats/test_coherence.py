"""Replies in levels and replies with ratings, as QuantiDCE's files have them."""

import json
from collections import Counter

import pytest

from turnsmith.data import formats
from turnsmith.errors import DataError
from turnsmith.registry import Registry

REGISTRY = Registry()
LEVELS = {
    "id": 7,
    "context": ["Hi.", "Who are you?"],
    "positive_responses": ["Ann.", "I am Ann."],
    "adversarial_negative_responses": ["You are who."],
    "random_negative_responses": ["Rain."],
}
JUDGED = {
    "context": ["Hi."],
    "hyp_response": "Hello.",
    "ref_response": "Bye.",
    "human_score": 2.5,
    "GRADE_score": 3,
}


def read(name, *rows):
    skipped = Counter()
    named = [(str(at), row) for at, row in enumerate(rows)]
    return list(formats.examples(named, name, REGISTRY, "rows", skipped)), skipped


def test_replies_of_three_levels_stand_behind_one_context_of_which_the_user_says_the_last():
    ((example,), _) = read("levels", LEVELS)
    assert example.values == {"level": (3.0, 3.0, 2.0, 1.0)}
    assert [one.messages[-1].content for one in example.parts["replies"]] == [
        "Ann.",
        "I am Ann.",
        "You are who.",
        "Rain.",
    ]
    assert {tuple(m.role for m in one.messages) for one in example.parts["replies"]} == {
        ("assistant", "user", "assistant")
    }


def test_a_level_may_be_empty_and_with_fewer_than_two_the_row_is_skipped():
    (found, skipped) = read(
        "levels", {**LEVELS, "adversarial_negative_responses": []},
        {**LEVELS, "adversarial_negative_responses": [], "random_negative_responses": []},
    )  # fmt: skip
    assert [one.values["level"] for one in found] == [(3.0, 3.0, 1.0)]
    assert skipped == {"replies of fewer than two levels": 1}


def test_a_rating_is_a_value_and_what_metrics_said_is_kept():
    ((example,), _) = read("judged", JUDGED)
    assert example.values == {"score": 2.5}
    assert (example.meta["GRADE_score"], example.meta["ref_response"]) == (3, "Bye.")
    assert [(m.role, m.content) for m in example.parts["text"].messages] == [
        ("user", "Hi."),
        ("assistant", "Hello."),
    ]


@pytest.mark.parametrize("score", [0.99, 5.01, "3", None, True, float("nan")])
def test_a_rating_off_the_scale_is_a_bad_row(score):
    """Check 5 of card 36."""
    with pytest.raises(DataError, match="human_score must be a number from 1 to 5"):
        read("judged", {**JUDGED, "human_score": score})


def test_without_a_context_nothing_is_coherent():
    with pytest.raises(DataError, match="the context is empty"):
        read("judged", {**JUDGED, "context": []})


def test_lists_of_rows_under_names_are_read_one_after_another(tmp_path):
    file = tmp_path / "mix.json"
    file.write_text(json.dumps({"low": [JUDGED], "high": [{**JUDGED, "human_score": 4.0}]}))
    found, name, _ = formats.from_file(file, "auto", REGISTRY)
    assert name == "judged"
    assert [(one.id, one.values["score"]) for one in found] == [("mix-1", 2.5), ("mix-2", 4.0)]


@pytest.mark.parametrize(
    ("name", "count"), [("convai2", 600), ("dailydialog_EVAL", 300), ("empatheticdialogues", 300)]
)
def test_the_files_of_the_paper_are_read(shared, name, count):
    found, guessed, skipped = formats.from_file(
        shared / "data" / "coherence" / f"categorized_{name}_mix.json", "auto", REGISTRY
    )
    assert (guessed, len(found), skipped) == ("judged", count, {})


def test_dailydialog_is_read(shared):
    found, guessed, _ = formats.from_file(
        shared / "data" / "coherence" / "dailydialogpp_dev.jsonl", "auto", REGISTRY
    )
    assert (guessed, len(found)) == ("levels", 753)
    assert {one.values["level"] for one in found} == {(3.0,) * 5 + (2.0,) * 5 + (1.0,) * 5}
