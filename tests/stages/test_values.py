"""Numbers given to examples: from metadata, from a scorer, or one for all that have none."""

from collections import Counter
from functools import partial

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.values import scored, standardised, value
from turnsmith.testing import STAGE, chat, variety
from turnsmith.types import Conversation, Example


def example(id, values=None, **meta):
    return Example({"text": chat("u: Hi", "a: Hello")}, values or {}, {"id": id, **meta})


def given(data, **options):
    counts = Counter()
    return [one.values for one in value(data, counts=counts, **options)], counts


def test_the_number_stands_in_the_metadata_and_what_has_none_is_counted():
    data = [example("a", task_type=1), example("b", task_type=0), example("c"), example("d", task_type=True)]
    found, counts = given(data, name="knowledge", key="task_type", to=-1.0)
    assert [values["knowledge"] for values in found] == [1.0, 0.0, -1.0, 1.0]
    assert counts == {"have no 'task_type': their 'knowledge' is -1": 1}


def test_a_value_that_is_there_stays_and_others_do():
    found, counts = given(
        [example("a", {"knowledge": 1.0}), example("b", {"rating": 3.0})], name="knowledge", to=0
    )
    assert found == [{"knowledge": 1.0}, {"rating": 3.0, "knowledge": 0}]
    assert not counts


def test_what_cannot_be_taken_is_an_error_that_names_the_example():
    with pytest.raises(UsageError, match="say what the value is"):
        given([], name="knowledge")
    with pytest.raises(DataError, match="example 'c' has no 'task_type'"):
        given([example("c")], name="knowledge", key="task_type")
    with pytest.raises(DataError, match="example 'c': task_type holds 'qa', which is no number"):
        given([example("c", task_type="qa")], name="knowledge", key="task_type", to=0)


def short(conversations, examples):
    """How much shorter than the id the first message is; None where that is longer."""
    pairs = zip(conversations, examples, strict=True)
    gaps = [len(example.id) - len(one.messages[0].content) for one, example in pairs]
    return [None if gap < 0 else float(gap) for gap in gaps]


def test_a_scorer_gives_each_example_a_number_and_what_it_cannot_judge_is_left_out_and_counted():
    counts = Counter()
    data = [example("four", {"rating": 3.0}), example("a"), example("two", {"reward": 9.0})]
    found = list(scored(data, by=short, counts=counts))
    assert [(one.id, one.values) for one in found] == [
        ("four", {"rating": 3.0, "reward": 2.0}),
        ("two", {"reward": 1.0}),
    ]
    assert counts == {"could not be judged": 1}


def test_what_is_scored_has_to_be_a_conversation_that_is_there():
    with pytest.raises(DataError, match="example 'a' has no conversation 'chosen'; it has text"):
        list(scored([example("a")], by=short, part="chosen", counts=Counter()))


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_the_contract_of_stages_holds_for_what_is_scored(check):
    plain = [one for one in variety() if isinstance(one.parts.get("text"), Conversation)]
    assert len(plain) > 2
    check(lambda data: list(partial(scored, by=short, counts=Counter())(data)), plain)


def test_numbers_are_standardised_over_all_that_the_stage_is_given():
    data = [example("a", {"reward": (1.0, 3.0), "rating": 2.0}), example("b", {"reward": (5.0, 7.0)})]
    first, second = (one.values for one in standardised(data))
    # Their mean is 4, their variance (9 + 1 + 1 + 9) / 4 = 5.
    assert first["reward"] == pytest.approx((-3 / 5**0.5, -1 / 5**0.5))
    assert second["reward"] == pytest.approx((1 / 5**0.5, 3 / 5**0.5))
    assert first["rating"] == 2.0


def test_numbers_that_are_all_the_same_become_0():
    assert [one.values["reward"] for one in standardised([example("a", {"reward": 2.5})])] == [0.0]


def test_every_example_needs_the_number_that_is_standardised():
    with pytest.raises(DataError, match="example 'b' has no value 'reward' that could be standardised"):
        list(standardised([example("a", {"reward": 1.0}), example("b")]))
