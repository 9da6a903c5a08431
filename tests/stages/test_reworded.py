"""Questions in other words."""

from collections import Counter
from dataclasses import replace

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.reworded import reworded
from turnsmith.testing import chat
from turnsmith.types import Example


def example(*said, **meta):
    said = said or ("u: Hi", "a: Hello", "u: Where?", "a: Here.")
    return Example({"text": chat(*said)}, {"weight": 2.0}, {"id": "x", "page": 3, **meta})


def test_each_wording_is_asked_in_place_of_the_last_question_and_knows_its_row():
    made = list(reworded([example(wordings=["In which place?", "Whereabouts?"])], counts=Counter()))
    asked = chat("u: Hi", "a: Hello", "u: In which place?", "a: Here.")
    assert made[0] == Example({"text": asked}, {"weight": 2.0}, {"id": "x/1", "page": 3, "row": "x"})
    assert made[1].parts["text"].messages[2].content == "Whereabouts?"
    assert made[1].meta == {"id": "x/2", "page": 3, "row": "x"}


def test_wordings_by_rule_follow_those_that_are_there():
    (one, two) = reworded(
        [example(other=["Whereabouts?"])], key="other", templates=("Say: {question}",), counts=Counter()
    )
    assert [made.parts["text"].messages[2].content for made in (one, two)] == ["Whereabouts?", "Say: Where?"]


def test_what_has_no_other_wording_is_left_out_and_counted():
    counts = Counter()
    assert list(reworded([example()], counts=counts)) == []
    assert counts == {"have no other wording": 1}


@pytest.mark.parametrize("wrong", ["Whereabouts?", [""], [1]])
def test_wordings_that_are_no_texts_are_refused(wrong):
    with pytest.raises(DataError, match="example 'x': 'wordings' of its metadata is"):
        list(reworded([example(wordings=wrong)], counts=Counter()))


@pytest.mark.parametrize("said", [("u: Where?",), ("a: Hi", "a: Here.")])
def test_there_must_be_a_question_before_the_answer(said):
    with pytest.raises(DataError, match="has no question before its last answer"):
        list(reworded([example(*said)], counts=Counter()))


def test_a_template_needs_the_question():
    with pytest.raises(UsageError, match=r"'Tell me.' has no \{question\}"):
        list(reworded([replace(example(), meta={"id": "x"})], templates=("Tell me.",), counts=Counter()))
