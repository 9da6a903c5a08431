"""Numbers given to examples: from metadata, from a scorer, or one for all that have none."""

from collections import Counter
from functools import partial

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.values import inverse_frequency, ordered, scored, standardised, tagged, value
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


def weighed(data, **options):
    counts = Counter()
    return [one.values["weight"] for one in inverse_frequency(data, counts=counts, **options)], counts


def test_the_rarer_a_class_the_more_its_examples_count_and_all_count_as_many_as_there_are():
    """N = 4, C = 2: 4 / (2 * 3) for each of three, 4 / (2 * 1) for the one; 3 * 2/3 + 2 = 4."""
    data = [example("abcd"[n], task="rare" if n == 1 else "common") for n in range(4)]
    found, _ = weighed(data, key="task")
    assert found == pytest.approx([2 / 3, 2.0, 2 / 3, 2 / 3])
    assert sum(found) == pytest.approx(4)


def test_where_classes_are_alike_in_number_all_weights_are_1():
    found, _ = weighed([example(str(n), label=n % 3) for n in range(9)], key="label")
    assert found == [1.0] * 9


def test_a_class_that_nobody_has_is_counted_and_gives_no_weight():
    """N = 2, C = 1: 2 / (1 * 2) for each."""
    found, counts = weighed([example("a", task="x"), example("b", task="x")], key="task", classes=("x", "y"))
    assert found == [1.0, 1.0]
    assert counts == {"classes without an example: 'y'": 1}


def test_an_example_without_a_class_or_of_a_strange_one_is_an_error():
    with pytest.raises(DataError, match="example 'b' has no class under 'task' in its metadata: None"):
        weighed([example("a", task="x"), example("b")], key="task")
    with pytest.raises(DataError, match="'task' is 'z', which is not among"):
        weighed([example("a", task="z")], key="task", classes=("x",))


def test_a_tag_is_given_to_those_that_have_none():
    found = list(tagged([example("a", task="x"), example("b")], key="task", to="y"))
    assert [one.meta["task"] for one in found] == ["x", "y"]


# ------------------------------------------------------------------------------------- in order


def test_examples_are_put_in_order_and_equals_stay_as_they_were():
    data = [
        example(id, {"difficulty": number}) for id, number in (("a", 2.0), ("b", 0.0), ("c", 2.0), ("d", 1.0))
    ]
    assert [one.id for one in ordered(data, by="difficulty")] == ["b", "d", "a", "c"]


def test_what_has_no_number_to_go_by_is_refused():
    for values in ({}, {"difficulty": (1.0, 2.0)}):
        with pytest.raises(DataError, match="example 'a' has no value 'difficulty' that is one number"):
            list(ordered([example("a", values)], by="difficulty"))
