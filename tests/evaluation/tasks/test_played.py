"""Rewards of dialogues of a model with a partner: what is judged, when, and what is no reward."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.evaluation.items import compare
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.played import Played
from turnsmith.testing import chat
from turnsmith.types import Example, Failure, Message, Reply, Usage


def says(*texts, finish="stop"):
    """A chat whose reply depends on how often it has spoken; a Failure for None."""

    def answer(conversations, *, sampling=None, seed=0):
        answer.asked = conversations
        answer.sampling = sampling
        return [reply(sum(m.role == "assistant" for m in one.messages)) for one in conversations]

    def reply(number):
        said = texts[number % len(texts)]
        if said is None:
            return Failure("the prompt has 12 tokens")
        return Reply(Message("assistant", said), finish, Usage(1, 1))

    return answer


def stars(conversations, examples):
    """Stars that the assistant has said in all, plus what the example's rating is."""
    stars.seen = [[m.content for m in one.messages] for one in conversations]
    said = ["".join(m.content for m in one.messages if m.role == "assistant") for one in conversations]
    return [
        None if "?" in text else text.count("*") + x.values["plus"]
        for text, x in zip(said, examples, strict=True)
    ]


class Bench:
    def __init__(self, *examples):
        self.data = examples

    def examples(self, name):
        assert name == "held"
        return self.data


ONE = Example({"text": chat("s: Be kind.", "u: Hi", "a: no")}, {"plus": 10.0}, {"id": "one", "job": "cook"})
TWO = Example({"text": chat("u: Hello")}, {"plus": 20.0}, {"id": "two", "job": "smith"})


def played(by, user=None, data=(ONE, TWO), **options):
    made = Played(on="held", user=user or says("and"), reward=stars, **{"turns": 3, **options})
    return made, made.measure(Subject.answering("it", by), Bench(*data))


def test_the_dialogue_is_judged_after_every_answer_as_the_model_sees_it():
    made, items = played(says("*", "**", ""))
    assert [item.id for item in items] == ["one", "two"]
    expected = {"turn 1": 11.0, "turn 2": 13.0, "turn 3": 13.0, "end": 13.0, "since": 2.0}
    assert items[0].values == expected  # 1, then 1 + 2, then nothing more: and 10 of the example
    assert items[1].values["turn 1"] == 21.0
    assert stars.seen[:2] == [["Be kind.", "Hi", "*"], ["Be kind.", "Hi", "*", "and", "**"]]
    figures = {row["name"]: row["after"] for row in compare(made.metrics, items, items)}
    assert figures == {
        "reward at the end": 18.0,
        "reward since turn 1": 2.0,
        "reward at turn 1": 16.0,
        "reward at turn 2": 18.0,
        "reward at turn 3": 18.0,
    }


def test_a_dialogue_that_ends_sooner_keeps_its_reward():
    _, (one, _) = played(says("*"), says("bye", "and"), turns=4, closing=("bye",))
    rewards = [one.values[f"turn {turn}"] for turn in (1, 2, 3, 4)]
    assert rewards == [11.0, 12.0, 12.0, 12.0]
    _, (one, _) = played(says("*", "", "*"))
    assert one.values["end"] == one.values["turn 1"] == 11.0


def test_what_failed_or_could_not_be_judged_has_no_values_and_says_why():
    _, items = played(says("*", None))
    assert [(item.values, item.failed) for item in items] == [({}, "the prompt has 12 tokens")] * 2
    _, items = played(says("*"), says(None))
    assert [(item.values, item.failed) for item in items] == [({}, "the prompt has 12 tokens")] * 2
    _, items = played(says("*", "?"))
    assert [(item.values, item.failed) for item in items] == [({}, "a dialogue could not be judged")] * 2


def test_of_several_dialogues_from_an_opening_the_mean_counts():
    def growing(conversations, *, sampling=None, seed=0):
        return [Reply(Message("assistant", "*" * n), "stop", Usage(1, 1)) for n in range(len(conversations))]

    _, (one, two) = played(growing, turns=1, count=2)
    assert one.values["end"] == 10.5  # the mean of 0 and 1
    assert two.values["end"] == 22.5  # and of 2 and 3
    _, (one, two) = played(says("*", None), turns=2, count=2)
    assert one.failed


def test_the_user_knows_its_profile_and_the_model_does_not():
    user, by = says("and"), says("*")
    played(by, user, system="Play.", profile="job", max_new=7)
    assert [one.messages[0].content for one in user.asked] == ["Play.\n\ncook", "Play.\n\nsmith"]
    assert "cook" not in str(by.asked)
    assert user.sampling == by.sampling
    assert by.sampling.max_new == 7


def test_cut_answers_are_counted_and_examples_without_an_opening_are_no_items():
    _, items = played(
        says("*", finish="length"), data=(ONE, Example({"text": chat("a: Hi")}, {}, {"id": "x"}))
    )
    assert [(item.id, item.finish) for item in items] == [("one", "length")]
    _, items = played(says("*"), says("and", finish="length"))
    assert [item.finish for item in items] == ["stop", "stop"]


@pytest.mark.parametrize("wrong", [{"turns": 0}, {"count": 0}])
def test_there_is_at_least_one_turn_of_one_dialogue(wrong):
    with pytest.raises(UsageError, match="both have to be at least 1"):
        Played(on="held", user=says("and"), reward=stars, **wrong)
