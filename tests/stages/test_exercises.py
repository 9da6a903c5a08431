"""Exercises: what is asked has one answer, and that is the one given."""

import re
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.exercises import backwards, facts, orders, recall, sums
from turnsmith.testing import chat
from turnsmith.types import Example


def made(stage, count=50, seed=0, data=(), **options):
    examples = list(stage(data, count=count, rng=Random(seed), **options))
    return [tuple(m.content for m in x.parts["text"].messages) for x in examples[len(data) :]]


def test_sums_are_right():
    for asked, answer in made(sums, most=30):
        one, other = map(int, re.findall(r"\d+", asked))
        assert 1 <= min(one, other) <= max(one, other) <= 30
        assert int(answer) == one + other


def test_letters_come_back_in_reverse_order():
    sizes = set()
    for asked, answer in made(backwards, least=3, most=5):
        letters = asked.rpartition(": ")[2].split()
        assert answer.split() == letters[::-1]
        sizes.add(len(letters))
    assert sizes == {3, 4, 5}


def test_the_number_asked_for_is_listed_beside_its_name():
    for asked, answer in made(recall, keys=3):
        listed, _, question = asked.partition(". ")
        numbers = dict(pair.split() for pair in listed.split(", "))
        assert len(numbers) == 3
        assert numbers[re.fullmatch(r"Which number has (\w+)\?", question)[1]] == answer


def test_an_order_is_a_form_of_three_lines_with_what_was_asked_for():
    for asked, answer in made(orders):
        item, count, person = re.fullmatch(r"ITEM (\w+)\nCOUNT (\d+)\nFOR (\w+)", answer).groups()
        assert all(word in asked for word in (f"{count} ", item, person))


def test_a_fact_has_one_answer_which_the_question_does_not_hold_and_is_marked_as_knowledge():
    examples = list(facts([], count=40, rng=Random(0)))
    said = [tuple(m.content for m in x.parts["text"].messages) for x in examples]
    names = [re.fullmatch(r"Which number has (\w+)\?", asked)[1] for asked, _ in said]
    assert len(set(names)) == 40
    assert all(10 <= int(answer) < 100 and answer not in asked for asked, answer in said)
    assert {x.values["knowledge"] for x in examples} == {1.0}


@pytest.mark.parametrize("stage", [recall, backwards, facts, sums, orders])
def test_they_depend_on_the_seed_alone_come_after_the_data_and_differ_in_id(stage):
    data = [Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": "first"})]
    one = list(stage(data, count=20, rng=Random(0)))
    assert one[0] is data[0]
    assert len({example.id for example in one}) == 21
    assert one == list(stage(data, count=20, rng=Random(0)))
    assert one != list(stage(data, count=20, rng=Random(1)))


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="1 <= least <= most"):
        made(backwards, least=4, most=3)
    with pytest.raises(UsageError, match="keys is 0: 1 to 100"):
        made(recall, keys=0)
    with pytest.raises(UsageError, match="count is 3000: 0 to 2,000"):
        made(facts, count=3000)
