"""A world of things and their kinds: questions with one answer, true statements, and both in other words."""

import re
from random import Random

import pytest

from turnsmith.stages.kinds import KINDS, cipher, kinds, recoded, statements
from turnsmith.testing import chat, variety
from turnsmith.types import Example

OF = {thing: kind for kind, things in KINDS.items() for thing in things}


def texts(stage, count=60, seed=0, **options):
    made = stage((), count=count, rng=Random(seed), **options)
    return [tuple(m.content for m in x.parts["text"].messages) for x in made]


def test_every_thing_is_of_one_kind_and_no_kind_is_a_thing():
    assert len(OF) == sum(map(len, KINDS.values()))
    assert not OF.keys() & KINDS.keys()


def test_questions_are_answered_rightly_and_about_half_of_them_with_yes():
    """Of 400, 200 +- 10 are: five standard deviations are 50."""
    asked = texts(kinds, count=400)
    for question, answer in asked:
        thing, kind = re.fullmatch(r"Is the (\w+) a kind of (\w+)\?", question).groups()
        assert answer == ("yes" if OF[thing] == kind else "no")
        assert kind in KINDS
    assert abs(sum(answer == "yes" for _, answer in asked) - 200) < 50


def test_statements_are_true_and_ask_nobody():
    for (text,) in texts(statements, sentences=5):
        for sentence in re.split(r"(?<=[.])\s", text):
            named = [word for word in re.findall(r"\w+", sentence) if word in OF]
            (kind,) = {word for word in re.findall(r"\w+", sentence) if word in KINDS}
            assert OF[named[0]] == kind
            assert all((word == named[0]) or ("is not" in sentence and OF[word] != kind) for word in named)


def test_each_letter_is_exchanged_for_one_other_and_what_is_no_letter_stays():
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert sorted(cipher(letters)) == sorted(letters)
    assert not [old for old, new in zip(letters, cipher(letters), strict=True) if old == new]
    assert cipher("Is the hammer?", "vowels") == "Os thi hemmir?"
    assert cipher("Is the hammer, Bob's 2nd, a TOOL?") == "Ov wki keppit, Dud'v 2qg, e WUUN?"


def test_all_is_recoded_but_what_the_assistant_says():
    example = Example({"text": chat("s: Be brief.", "u: Is it?", "a: yes")}, {}, {"id": "one"})
    (made,) = recoded([example])
    assert [m.content for m in made.parts["text"].messages] == [cipher("Be brief."), cipher("Is it?"), "yes"]
    assert example.parts["text"].messages[1].content == "Is it?"
    (near,) = recoded([example], letters="vowels")
    assert near.parts["text"].messages[1].content == "Os ot?"


def test_what_is_said_of_tokens_does_not_outlive_the_text():
    given = {example.id: example for example in variety()}
    made = {example.id: example for example in recoded(list(given.values()))}
    assert made["raw"].parts["text"].messages[0].content == cipher("The cat sat on the mat.\n")
    assert made["sampled"].parts["text"].messages[-1].ids == (40, 41, 2)  # the assistant's
    assert len(made["several"].parts["replies"]) == 2


@pytest.mark.parametrize("stage", [kinds, statements])
def test_they_depend_on_the_seed_alone_come_after_the_data_and_differ_in_id(stage):
    data = [Example({"text": chat("u: Hi", "a: Hello")}, {}, {"id": "first"})]
    one = list(stage(data, count=20, rng=Random(0)))
    assert one[0] is data[0]
    assert len({example.id for example in one}) == 21
    assert one == list(stage(data, count=20, rng=Random(0)))
    assert one != list(stage(data, count=20, rng=Random(1)))
