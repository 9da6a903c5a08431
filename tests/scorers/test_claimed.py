"""Answers by what they claim: supported by a source, or what the model itself would say again."""

from collections import Counter
from dataclasses import replace
from math import log

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.scorers.claimed import Consistent, Supported
from turnsmith.stages.answers import answers
from turnsmith.stages.comparisons import every_pair
from turnsmith.testing import SCORER, chat
from turnsmith.types import Example, Failure, Reply

SOURCE = "Ada Ash was born in Rome. Ada Ash keeps a cat."


def example(said, source=SOURCE):
    return Example({"text": said}, {}, {"id": "ada", "source": source})


def says(answers):
    """Answers each question with the next of its answers, in turn."""
    left = {question: list(given) for question, given in answers.items()}

    def answer(conversations, *, sampling=None, seed=0):
        found = []
        for one in conversations:
            said = left[one.messages[-1].content].pop(0)
            found.append(said if isinstance(said, Failure) else Reply.scripted(said))
        return found

    return answer


def asker(conversations, *, sampling=None, seed=0):
    """`Where?` and Rome of a birth, `What?` and a cat of what is kept; nothing else can be asked."""
    found = []
    for one in conversations:
        claim = one.messages[-1].content
        if "was born" in claim:
            found.append(Reply.scripted("Where?\nRome"))
        elif "keeps" in claim:
            found.append(Reply.scripted("What?"))
        else:
            found.append(Failure("no rule"))
    return found


def supported(*said, **options):
    conversations = [chat("u: Who is Ada?", f"a: {one}") for one in said]
    return Supported(**options)(conversations, [example(one) for one in conversations])


def consistent(said, answers, **options):
    conversation = chat("u: Who is Ada?", f"a: {said}")
    scorer = Consistent(by=says(answers), asker=asker, k=4, **options)
    return scorer([conversation], [example(conversation)])[0]


def test_the_score_is_the_share_of_supported_claims():
    right, wrong = "Ada Ash was born in Rome.", "Ada Ash keeps a dog."
    assert supported(right, f"{right} {wrong}", wrong) == [1.0, 0.5, 0.0]


def test_saying_everything_twice_changes_no_score():
    said = "Ada Ash was born in Rome. Ada Ash keeps a dog. Ada Ash sings."
    assert supported(said, f"{said} {said}") == [1 / 3, 1 / 3]
    answers = {"Where?": ["Rome"] * 4, "What?": ["a cat", "a cat", "a dog", "a dog"]}
    born, keeps = "Ada Ash was born in Rome.", "Ada Ash keeps a cat."
    assert consistent(f"{born} {keeps}", answers) == 0.75  # (1 + 1/2) / 2
    assert consistent(f"{born} {keeps} {born} {keeps}", answers) == 0.75


def test_what_claims_nothing_has_no_score():
    assert supported("", "...") == [None, None]
    assert consistent("", {}) is None
    only_asked = chat("u: Who is Ada?")
    assert Supported()([only_asked], [example(only_asked)]) == [None]


def test_a_judge_and_a_splitter_are_asked_where_there_are_any():
    splits = says(
        {
            "Take the text apart into short statements, one a line, each of which says one thing and can be "
            "understood by itself.\n\nMuch": ["- One\n- Two\n- Three"]
        }
    )

    def judge(conversations, *, sampling=None, seed=0):
        words = {"One": "Yes.", "Two": "No, not at all", "Three": "Who knows"}
        asked = [one.messages[-1].content for one in conversations]
        assert all(text.startswith(SOURCE) for text in asked)
        return [Reply.scripted(words[text.split("Statement: ")[1].split("\n")[0]]) for text in asked]

    assert supported("Much", splitter=splits, judge=judge) == [0.5]  # the third counts for nothing


@pytest.mark.parametrize(
    ("measure", "value"),
    [  # Rome 3 of 4, Oslo 1 of 4
        ("most", 3 / 4),
        ("squares", 9 / 16 + 1 / 16),
        ("entropy", 3 / 4 * log(3 / 4) + 1 / 4 * log(1 / 4)),
        ("own", 3 / 4),
    ],
)
def test_certainty_is_measured_on_the_shares_of_like_answers(measure, value):
    answers = {"Where?": ["Rome.", "in Rome\nAnd more", "Oslo", "rome"]}
    assert consistent("Ada Ash was born in Rome", answers, measure=measure) == pytest.approx(value)


def test_answers_that_did_not_come_are_left_out_and_where_none_came_the_claim_counts_for_nothing():
    failed = Failure("no")
    some = {"Where?": ["Rome", failed, "", "Oslo"], "What?": [failed] * 4}
    said = "Ada Ash was born in Rome. Ada Ash keeps a cat. Ada Ash sings."  # the last cannot be asked
    assert consistent(said, some) == 0.5
    assert consistent("Ada Ash keeps a cat.", {"What?": [failed] * 4}) is None
    assert (
        consistent("Ada Ash keeps a cat.", {"What?": ["a cat"] * 4}, measure="own") is None
    )  # no own answer


def test_an_example_without_its_source_is_refused():
    said = chat("u: Who?", "a: She sang.")
    with pytest.raises(DataError, match="example 'ada': 'source' of its metadata is ''"):
        Supported()([said], [example(said, source="")])


def test_no_answers_are_refused():
    with pytest.raises(UsageError, match="k is 0"):
        Consistent(by=says({}), asker=asker, k=0)


@pytest.mark.parametrize("check", SCORER, ids=lambda check: check.__name__)
def test_contract(check):
    said = [chat("u: Who?", f"a: Ada Ash was born in {place}.") for place in ("Rome", "Oslo", "Lima")]

    def always(conversations, *, sampling=None, seed=0):
        return [Reply.scripted("Rome") for _ in conversations]

    examples = [Example({"text": one}, {}, {"id": f"{at}", "source": SOURCE}) for at, one in enumerate(said)]
    check(Supported(), said, examples)
    check(Consistent(by=always, asker=asker, k=2), said, examples)


def test_answers_that_claim_nothing_are_in_no_pair_and_ties_make_none():
    """Of five answers one claims nothing; 1, 1, 0.5 and 0 have 6 pairs, of which one is a tie."""
    right, wrong = "Ada Ash was born in Rome.", "Ada Ash keeps a dog."
    texts = [right, right, f"{right} {wrong}", wrong, "..."]
    speaker = says({"Who is Ada?": texts})
    counts: Counter[str] = Counter()
    asked = [example(chat("u: Who is Ada?"))]
    (found,) = answers(asked, by=speaker, reward=Supported(), n=5, counts=counts)
    assert found.values["reward"] == (1.0, 1.0, 0.5, 0.0)
    assert counts["answers that could not be judged"] == 1
    pairs = list(every_pair([found], counts=counts))
    assert [one.values["margin"] for one in pairs] == [0.5, 1.0, 0.5, 1.0, 0.5]
    assert counts["pairs no more than 0 apart"] == 1
    alike = replace(found, values={**found.values, "reward": (0.5,) * 4})
    assert list(every_pair([alike], counts=counts)) == []
