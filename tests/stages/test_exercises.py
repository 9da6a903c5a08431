"""Exercises: what is asked has one answer, and that is the one given."""

import re
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.exercises import backwards, facts, kinship, orders, recall, sums
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
    assert {len(name) for name in names} == {4}


def test_other_facts_have_longer_names_and_may_be_no_knowledge():
    examples = list(facts([], count=40, syllables=3, knowledge=0.0, rng=Random(0)))
    asked = [x.parts["text"].messages[0].content for x in examples]
    assert all(re.fullmatch(r"Which number has \w{6}\?", one) for one in asked)
    assert {x.values["knowledge"] for x in examples} == {0.0}


# Of each word, how many generations up, and who it is.
UP = {
    **dict.fromkeys(("grandmother", "grandfather"), 2),
    **dict.fromkeys(("mother", "father", "aunt", "uncle", "mother-in-law", "father-in-law"), 1),
    **dict.fromkeys(("sister", "brother", "wife", "husband"), 0),
    **dict.fromkeys(("daughter", "son", "niece", "nephew", "daughter-in-law", "son-in-law"), -1),
    **dict.fromkeys(("granddaughter", "grandson"), -2),
}
WOMEN = {word for word in UP if re.match("grandm|m|a|sister|wife|d|ni|grandd", word)}


def test_two_relations_make_the_one_that_is_asked_for():
    """Generations add up; a word is for a woman where the last step's is; a marriage in between shows."""
    answers = set()
    for asked, answer in made(kinship, count=200):
        told = {who: (word, whom) for who, word, whom in re.findall(r"(\w+) is the (\S+) of (\w+)\.", asked)}
        third, first = re.search(r"What is (\w+) to (\w+)\?", asked).groups()
        last, second = told[third]
        step, start = told[second]
        assert start == first
        assert len({first, second, third}) == 3
        assert UP[answer] == UP[step] + UP[last]
        assert (answer in WOMEN) == (last in WOMEN)
        assert answer.endswith("-in-law") == ({step, last} & {"wife", "husband"} != set())
        assert (answer in ("aunt", "uncle")) == (UP[step] == 1 and last in ("sister", "brother"))
        assert (answer in ("niece", "nephew")) == (step in ("sister", "brother") and UP[last] == -1)
        answers.add(answer)
    assert len(answers) == 16


@pytest.mark.parametrize("stage", [recall, backwards, facts, sums, orders, kinship])
def test_they_depend_on_the_seed_alone_come_after_the_data_and_differ_in_id(stage):
    data = [Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": "first"})]
    one = list(stage(data, count=20, rng=Random(0)))
    assert one[0] is data[0]
    assert len({example.id for example in one}) == 21
    assert one == list(stage(data, count=20, rng=Random(0)))
    assert one != list(stage(data, count=20, rng=Random(1)))


def test_options_out_of_range_are_refused():
    with pytest.raises(UsageError, match="syllables is 1"):
        made(facts, syllables=1)
    with pytest.raises(UsageError, match="1 <= least <= most"):
        made(backwards, least=4, most=3)
    with pytest.raises(UsageError, match="keys is 0: 1 to 100"):
        made(recall, keys=0)
    with pytest.raises(UsageError, match="count is 3000: 0 to 2,000"):
        made(facts, count=3000)
