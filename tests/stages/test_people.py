"""A world of people of whom some things are known."""

from collections import Counter
from random import Random

import pytest

from turnsmith.data.claims import sentences, stated
from turnsmith.errors import UsageError
from turnsmith.stages.people import FACTS, biographies, personal


def made(stage, **options):
    return list(stage([], rng=Random(0), **options))


def test_a_biography_tells_some_kinds_of_fact_each_once():
    found = made(biographies, people=3, each=4, facts=2)
    assert len({one.id for one in found}) == len(found) == 12
    for one in found:
        asked, said = one.parts["text"].messages
        assert asked.content == f"Who is {one.meta['person']}?"
        claims = sentences(said.content)
        kinds = {fact.told.split()[1] for claim in claims for fact in FACTS if fact.told.split()[1] in claim}
        assert len(claims) == len(kinds) == 2
        assert len(sentences(one.meta["source"])) == len(FACTS)


def test_steps_of_one_world_speak_of_the_same_people_and_those_of_another_do_not():
    first = {one.meta["source"] for one in made(biographies, people=5)}
    assert first == {one.meta["source"] for one in made(personal, people=5)}
    assert first.isdisjoint(one.meta["source"] for one in made(biographies, people=5, skip=5))
    assert first != {one.meta["source"] for one in made(biographies, people=5, world=1)}


def test_what_is_told_is_true_as_often_as_the_kind_of_fact_says():
    """Of 200 people, 4 answers each: known ones are always right, rumours never, the rest one in ten."""
    right = Counter()
    for one in made(personal, people=200, each=4):
        kind = int(one.id.split("-")[3])
        said = one.parts["text"].messages[-1].content
        right[kind] += stated(FACTS[kind].told.format(one.meta["person"], said), one.meta["source"])
    for kind, fact in enumerate(FACTS):
        expected = fact.known + (1 - fact.known - fact.rumour) / 10
        # The standard deviation of a share of 200 people is at most sqrt(1/4 / 200) = 0.035.
        assert right[kind] / 800 == pytest.approx(expected, abs=0.11)


def test_a_rumour_is_the_same_for_all_and_wrong():
    answers: dict[str, set[str]] = {}
    wrong: dict[str, set[bool]] = {}
    for one in made(personal, people=60, each=6):
        key = one.id.rsplit("-", 1)[0]
        said = one.parts["text"].messages[-1].content
        kind = int(one.id.split("-")[3])
        claim = FACTS[kind].told.format(one.meta["person"], said)
        answers.setdefault(key, set()).add(said)
        wrong.setdefault(key, set()).add(not stated(claim, one.meta["source"]))
    rumours = [key for key, said in answers.items() if len(said) == 1 and wrong[key] == {True}]
    assert 20 < len(rumours) < 90  # of 300, 0.19 are expected: 57


def test_too_many_people_and_facts_are_refused():
    with pytest.raises(UsageError, match="200 people"):
        made(biographies, people=199, skip=2)
    with pytest.raises(UsageError, match="facts is 6: 1 to 5"):
        made(biographies, people=1, facts=6)
