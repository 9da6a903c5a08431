"""Requests whose calls are known."""

import ast
import re
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.tool_requests import COUNTS, REFUSAL, tool_requests


def made(**options):
    return [
        (
            one.parts["text"].messages[0].content,
            one.parts["text"].messages[1].content,
            one.values["difficulty"],
        )
        for one in tool_requests([], rng=Random(0), **options)
    ]


def test_a_call_says_what_was_asked_in_its_own_units():
    for asked, said, difficulty in made(count=200, none=0.0):
        (call,) = ast.parse(said, mode="eval").body.elts
        verb, thing = re.match(r"(\w+) a (\w+)", asked).groups()
        assert call.func.id == f"{verb.lower()}_{thing}"
        given = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
        told = {}
        if found := re.search(r"on (\w+)", asked):
            told["day"] = found[1]
        if found := re.search(r"at (\d+) (am|pm)", asked):
            told["hour"] = int(found[1]) + (12 if found[2] == "pm" else 0)
        if found := re.search(r"for (\w+)", asked):
            told["people"] = COUNTS.index(found[1]) + 1
        if found := re.search(r"lasting (\d) h", asked):
            told["minutes"] = 60 * int(found[1])
        assert given == told
        assert len(given) == difficulty


def test_a_tool_always_takes_the_same_arguments():
    known = {}
    for _, said, _ in made(count=400, none=0.0):
        name, names = said.split("(")[0], tuple(re.findall(r"(\w+)=", said))
        assert known.setdefault(name, names) == names
    assert len(known) == 20


def test_what_no_tool_can_do_is_declined_and_easiest():
    found = made(count=300, none=0.5)
    declined = [difficulty for _, said, difficulty in found if said == REFUSAL]
    assert 100 < len(declined) < 200  # 150 are expected, with a deviation of 8.7
    assert set(declined) == {0.0}
    assert {difficulty for *_, difficulty in made(count=50, least=3, none=0.0)} == {3.0}


def test_impossible_numbers_are_refused():
    with pytest.raises(UsageError, match="least 2, most 1"):
        made(count=1, least=2, most=1)
