"""CLEAR: planted noise, the filter, the correction, and that every row is accounted for."""

from collections import Counter
from random import Random

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.clear import confidence, confident, corrected, mismatched
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Usage


def example(name, said, value=None, **meta):
    text = Conversation((Message("user", f"ask {name}"), Message("assistant", said)))
    return Example({"text": text}, {} if value is None else {"confidence": value}, {"id": name, **meta})


def said(one):
    return one.parts["text"].messages[-1].content


def speaker(texts):
    """A chat that says the texts by turns, and a list of all that it was asked."""
    asked, left = [], iter(texts)

    def answer(conversations, *, sampling=None, seed=0):
        asked.extend(conversations)
        words = [next(left) for _ in conversations]
        return [
            one if isinstance(one, Failure) else Reply(Message("assistant", one), "stop", Usage(1, 1))
            for one in words
        ]

    return answer, asked


def scorer(scores):
    left = iter(scores)
    return lambda conversations, examples: [next(left) for _ in conversations]


# ------------------------------------------------------------------------------------- planted noise


def test_a_share_of_the_replies_is_that_of_another_and_the_truth_is_kept():
    data = [example(f"e{n}", f"word {n % 3}") for n in range(10)]
    counts = Counter()
    made = list(mismatched(data, share=0.2, rng=Random(0), counts=counts))
    wrong = [one for one in made if one.values["wrong"]]
    assert len(wrong) == 2 == counts["replies of another"]
    assert [one.id for one in made] == [one.id for one in data]
    for before, after in zip(data, made, strict=True):
        assert after.meta["truth"] == said(before)
        assert (said(after) != said(before)) == (after.values["wrong"] == 1)
        assert after.parts["text"].messages[0] == before.parts["text"].messages[0]


def test_where_all_say_the_same_no_noise_can_be_planted():
    with pytest.raises(UsageError, match="all replies say the same"):
        list(mismatched([example("a", "x"), example("b", "x")], share=0.5, rng=Random(0), counts=Counter()))
    with pytest.raises(UsageError, match="share is 2"):
        list(mismatched([], share=2, rng=Random(0), counts=Counter()))


# ------------------------------------------------------------------------------------------ the filter


def test_what_cannot_be_judged_is_left_out_and_counted():
    counts = Counter()
    data = [example("a", "x"), example("b", "y"), example("c", "z")]
    made = list(confidence(data, by=scorer([0.5, None, 1]), counts=counts))
    assert [(one.id, one.values["confidence"]) for one in made] == [("a", 0.5), ("c", 1.0)]
    assert counts == {"could not be judged": 1}


def filtered(values, **options):
    data = [example(str(n), "x", value) for n, value in enumerate(values)]
    return [int(one.id) for one in confident(data, **options)]


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ([0.1, 0.9, 0.5], [1, 2]),  # ceil(3 / 2)
        ([0.4, 0.1, 0.2, 0.3], [0, 3]),
        ([0.5, 0.5, 0.5, 0.1], [0, 1, 2]),  # ties stay
        ([0.5, 0.5], [0, 1]),
    ],
)
def test_the_median_keeps_half_and_ties(values, kept):
    assert filtered(values) == kept
    assert filtered(values, side="left") == [n for n in range(len(values)) if n not in kept]


def test_zero_keeps_all_and_more_than_one_keeps_none_which_is_an_error():
    assert filtered([0.0, 0.4, 1.0], least=0.0) == [0, 1, 2]
    with pytest.raises(UsageError, match=r"nothing has a confidence of 1.1 or more; the most is 0.4"):
        filtered([0.1, 0.4], least=1.1)


def test_a_fixed_threshold_changes_nothing_the_second_time_and_a_median_halves_again():
    data = [example(str(n), "x", n / 8) for n in range(8)]
    once = list(confident(data, least=0.4))
    assert list(confident(once, least=0.4)) == once
    halved = list(confident(data))
    assert [one.meta["threshold"] for one in halved] == [0.4375] * 4
    assert len(list(confident(halved))) == 2
    assert list(confident(halved, least=0.4375)) == halved


def test_examples_without_a_confidence_are_refused():
    with pytest.raises(DataError, match="example 'a' has no confidence"):
        list(confident([example("a", "x")]))


# -------------------------------------------------------------------------------------- the correction


def mended(data, new, scores=(), verdicts=None, seed=0, **options):
    """What comes of it, the counts, and what the judge was asked."""
    by, _ = speaker(new)
    judge, asked = speaker(verdicts) if verdicts is not None else (None, [])
    counts = Counter()
    made = list(
        corrected(data, by=by, sure=scorer(scores), judge=judge, rng=Random(seed), counts=counts, **options)
    )
    return made, counts, asked


DATA = [example("a", "old", 0.9), example("b", "old", 0.1), example("c", "old", 0.2)]


def test_without_a_judge_the_difference_of_scores_decides():
    # log-odds 2, -3 and 0: the logistic function gives 0.881, 0.047 and 0.5.
    made, counts, _ = mended(DATA, ["new"] * 3, [-3.0, -1.0, -1.0, -4.0, -1.0, -1.0], least=0.5)
    assert [(one.id, said(one), one.meta["action"]) for one in made] == [("a", "new", "replace")]
    assert made[0].meta["verdict_confidence"] == pytest.approx(0.8807970779778823)
    assert made[0].meta["candidate"] == "new"
    assert counts == {"replaced": 1, "dropped": 2}


def test_one_replaces_nothing_and_zero_whatever_is_preferred():
    scores = [-1000.0, 0.0] * 3  # as sure as can be
    made, counts, _ = mended(DATA, ["new"] * 3, scores, above=1.0, least=0.0)
    assert [said(one) for one in made] == ["old"] * 3
    assert counts == {"kept": 3}
    made, counts, _ = mended(DATA, ["new"] * 3, [0.0, -2.0] * 3, above=0.0, least=0.5)
    assert counts == {"replaced": 3}


def test_an_equal_reply_is_no_replacement_and_is_not_scored():
    made, counts, _ = mended(DATA, [" old ", Failure("no"), ""], [], least=0.15)
    assert [(one.id, one.meta["action"]) for one in made] == [("a", "keep"), ("c", "keep")]
    assert counts == {"kept": 2, "dropped": 1, "could not be answered: no": 1}


def test_a_reply_without_a_verdict_replaces_nothing_and_is_counted():
    made, counts, _ = mended(DATA, [" new ", " old ", ""], [None, -1.0], least=0.15)
    assert [(one.id, one.meta["action"]) for one in made] == [("a", "keep"), ("c", "keep")]
    assert counts == {"kept": 2, "dropped": 1, "replies without a verdict, which replace nothing": 1}


def test_every_row_is_accounted_for_and_what_is_right_is_known():
    data = [
        example("spoilt", "right", 0.9, truth="right"),
        example("mended", "wrong", 0.1, truth="right"),
        example("kept wrong", "wrong", 0.8, truth="right"),
        example("lost", "right", 0.2, truth="right"),
        example("kept", "right", 0.7, truth="right"),
    ]
    new = ["other", "right", "wrong", "right", "right"]
    made, counts, _ = mended(data, new, [-9.0, 0.0] * 2, least=0.5)
    assert counts == {
        "replaced": 2,
        "kept": 2,
        "dropped": 1,
        "replaced by what is right": 1,
        "right ones that were replaced": 1,
        "kept that are wrong": 1,
        "right ones that were dropped": 1,
    }
    assert [one.id for one in made] == ["spoilt", "mended", "kept wrong", "kept"]
    assert [one.parts["text"].messages[0].content for one in made] == [f"ask {one.id}" for one in made]


def test_the_judge_is_asked_in_both_orders_and_the_order_changes_no_action():
    data = [example(str(n), "old", 0.9) for n in range(20)]

    def better(conversations, *, sampling=None, seed=0):
        words = ["A" if one.messages[0].content.index("new") < one.messages[0].content.index("old") else "B"
                 for one in conversations]  # fmt: skip
        return [Reply(Message("assistant", word), "stop", Usage(1, 1)) for word in words]

    seen = []

    def sure(conversations, examples):
        seen.extend(one.messages[-1].content for one in conversations)
        return [0.9] * len(conversations)

    by, _ = speaker(["new"] * 20)
    made = list(corrected(data, by=by, sure=sure, judge=better, rng=Random(3), counts=Counter()))
    assert [one.meta["action"] for one in made] == ["replace"] * 20
    assert set(seen) == {"A", "B"}


def test_a_verdict_for_the_old_reply_or_for_neither_replaces_nothing():
    data = [example("a", "old", 0.9), example("b", "old", 0.9)]
    swapped = Random(0).random() < 0.5
    against = "B" if swapped else "A"  # the letter of the old reply, which is second where they are swapped
    made, counts, asked = mended(data, ["new"] * 2, [], [against, "Both are fine"], least=0.0)
    assert [one.meta["verdict_confidence"] for one in made] == [0.0, 0.0]
    assert counts == {"kept": 2, "verdicts that name neither reply": 1}
    first, second = ("new", "old") if swapped else ("old", "new")
    assert f"Reply A: {first}\n\nReply B: {second}" in asked[0].messages[0].content


def test_a_share_out_of_range_is_refused():
    with pytest.raises(UsageError, match="above is"):
        mended(DATA, [], above=1.2)
