"""Tables of questions and answers."""

from collections import Counter

import pytest

from turnsmith.data.formats import from_file
from turnsmith.data.formats.faq import faq
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import chat


@pytest.mark.parametrize(
    "row",
    [
        {"questions": "Where?", "answers": "Here."},
        {"questions": ["Where?"], "answer": "Here."},
        {"Question": "Where?", "Best Answer": "Here."},
        {"prompt": "Where?", "answer": "Here."},
    ],
)
def test_a_question_is_asked_and_its_answer_is_the_reply(row):
    parsed = faq(row)
    assert parsed.parts == {"text": chat("u: Where?", "a: Here.")}
    assert set(parsed.used) == set(row)
    assert parsed.meta == {}


def test_of_several_wordings_the_first_is_asked_and_the_others_are_kept():
    parsed = faq({"questions": ["Where?", "In which place?", "Whereabouts?"], "answer": "Here."})
    assert parsed.parts == {"text": chat("u: Where?", "a: Here.")}
    assert parsed.meta == {"wordings": ["In which place?", "Whereabouts?"]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"questions": [], "answer": "Here."}, "questions: an empty list"),
        ({"question": "Where?"}, "no question and answer: that has questions and answers, or"),
    ],
)
def test_what_is_no_row_is_refused(row, said):
    with pytest.raises(DataError, match=said):
        faq(row)


def test_feedback_is_read_with_its_source_and_rating_and_not_guessed(tmp_path):
    file = tmp_path / "feedback.jsonl"
    file.write_text('{"prompt": "Where?", "answer": "Here.", "source": "rag", "rating": 5}\n')
    (one,), name, _ = from_file(file, "faq", Registry())
    assert (one.parts["text"], one.meta["source"], one.meta["rating"]) == (
        chat("u: Where?", "a: Here."),
        "rag",
        5,
    )
    assert name == "faq"
    assert from_file(file, "auto", Registry())[1] == "prompt"


@pytest.mark.shared
def test_real_tables_are_guessed(shared):
    folder = shared / "data"
    asked, name, skipped = from_file(folder / "knowledge_edits" / "mquake_train.jsonl", "auto", Registry())
    assert (len(asked), name, skipped) == (134, "faq", Counter())
    assert all(len(one.meta["wordings"]) == 2 for one in asked)
    told, name, _ = from_file(folder / "truthfulqa" / "fold_0_train_seed_42.csv", "auto", Registry())
    assert (len(told), name) == (326, "faq")
    assert told[0].parts["text"] == chat("u: Can pigs fly?", "a: No, pigs cannot fly")
