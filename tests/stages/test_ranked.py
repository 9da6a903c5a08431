"""The better and the worse of some answers to one prompt, by hand."""

from collections import Counter
from random import Random

import pytest

from turnsmith.errors import UsageError
from turnsmith.stages.ranked import ranked_pairs
from turnsmith.testing import STAGE, chat, variety
from turnsmith.types import Example, Failure, Message, Reply, Usage


def example(name, *said):
    return Example({"text": chat(*said)}, {"rating": 3.0}, {"id": name})


LOG = example("log", "u: Hi", "a: Hello", "u: And you?", "a: Fine")


def says(*texts):
    """A chat that says these one after the other, over and over; a Failure for None."""

    def answer(conversations, *, sampling=None, seed=0):
        answer.asked, answer.sampling = conversations, sampling
        return [reply(texts[number % len(texts)]) for number in range(len(conversations))]

    def reply(text):
        if text is None:
            return Failure("the prompt has 12 tokens")
        return Reply(Message("assistant", text, ids=(len(text), 2)), "stop", Usage(1, 1))

    return answer


def lengths(conversations, examples):
    said = [one.messages[-1].content for one in conversations]
    return [None if text == "?" else float(len(text)) for text in said]


def ranked(data, by, **options):
    counts = Counter()
    made = ranked_pairs(data, by=by, reward=lengths, rng=Random(0), counts=counts, **options)
    return list(made), counts


def test_the_best_and_the_worst_of_those_drawn_behind_a_logged_prefix():
    (pair,), counts = ranked([LOG], says("ab", "abcd", "a"), of=3, max_new=9)
    chosen, rejected = (pair.parts[part].messages for part in ("chosen", "rejected"))
    assert (chosen[-1].content, rejected[-1].content) == ("abcd", "a")
    assert chosen[-1].ids == (4, 2)
    assert chosen[:-1] == rejected[:-1] == LOG.parts["text"].messages[: len(chosen) - 1]
    assert (pair.id, pair.values) == ("log", {"rating": 3.0})
    assert not counts


def test_every_answer_is_as_likely_to_be_the_one():
    by = says("a", "ab")
    made, _ = ranked([example(str(n), "u: Hi", "a: Yes", "u: So", "a: No") for n in range(400)], by)
    sizes = Counter(len(one.parts["chosen"].messages) for one in made)
    assert sizes.keys() == {2, 4}
    assert sizes[2] == pytest.approx(200, abs=40)  # four standard deviations


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("ab", "cd"), "pairs of equally good answers"),
        (("ab", None), "could not be answered or judged"),
        (("ab", "?"), "could not be answered or judged"),
    ],
)
def test_what_teaches_nothing_or_is_not_known_is_left_out_and_counted(texts, reason):
    assert ranked([LOG], says(*texts)) == ([], {reason: 1})


def test_without_an_answer_there_is_nothing_to_rank_and_one_draw_is_no_pair():
    assert ranked([example("asked", "u: Hi")], says("a", "ab")) == ([], {"have no answer": 1})
    with pytest.raises(UsageError, match="at least 2 answers"):
        ranked([LOG], says("a"), of=1)


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_the_contract_of_stages_holds(check):
    check(lambda given: ranked(given, says("a", "ab"))[0], variety())
