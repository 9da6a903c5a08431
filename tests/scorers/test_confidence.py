"""BSDetector's confidence: agreement with samples, and what a model says of its own reply."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.scorers.confidence import WORDINGS, Confidence
from turnsmith.types import Conversation, Example, Failure, Message, Reply, Usage


def chat(*messages):
    roles = ("user", "assistant")
    return Conversation(tuple(Message(roles[at % 2], text) for at, text in enumerate(messages)))


def speaker(samples, verdicts):
    """Answers prompts with the samples in turn, and questions on a reply with the verdicts in turn."""
    drawn, said = iter(samples), iter(verdicts)

    def answer(conversations, *, sampling=None, seed=0):
        found = []
        for one in conversations:
            text = next(said) if one.messages[-1].content in WORDINGS else next(drawn)
            found.append(
                text if isinstance(text, Failure) else Reply(Message("assistant", text), "stop", Usage(1, 1))
            )
        return found

    return answer


def confidence(conversation, samples=(), verdicts=(), **options):
    scorer = Confidence(by=speaker(samples, verdicts), **options)
    return scorer([conversation], [Example({"text": conversation}, {}, {"id": "a"})])[0]


QUESTION = chat("What is red?", "the red cat")


def test_consistency_and_reflection_are_weighed_as_the_paper_does():
    # Samples: the same (1), two of three words shared (0.8 * 4/6), nothing shared (0); their mean is O.
    seen = (1 + 0.8 * 4 / 6 + 0) / 3
    found = confidence(QUESTION, ["the red cat", "the cat sat", "no"], ["A", "(B) wrong"], k=3)
    assert found == pytest.approx(0.7 * seen + 0.3 * 0.5)


def test_all_samples_equal_and_both_verdicts_for_it_give_one():
    assert confidence(QUESTION, ["the red cat"] * 5, ["A", "A"]) == pytest.approx(1.0)


def test_verdicts_that_are_unsure_or_unreadable_count_a_half():
    assert confidence(QUESTION, verdicts=["C", "C"], k=0) == 0.5
    assert confidence(QUESTION, verdicts=["Sure!", "(A)"], k=0) == 0.75
    assert confidence(QUESTION, verdicts=["Apples are red", "B."], k=0) == 0.25


def test_without_samples_the_reflection_alone_counts():
    assert confidence(QUESTION, verdicts=["A", "C"], k=0) == 0.75


def test_a_reply_that_says_nothing_has_none_and_is_not_asked_of():
    assert confidence(chat("What is red?", " ")) == 0.0
    assert confidence(chat("What is red?")) is None


def test_what_could_not_be_answered_is_not_judged():
    failed = Failure("no")
    assert confidence(QUESTION, [failed] * 5, ["A", "A"]) is None
    assert confidence(QUESTION, [failed, "the red cat"], [failed, "A"], k=2) == pytest.approx(1.0)
    assert confidence(QUESTION, verdicts=[failed, failed], k=0) is None


@pytest.mark.parametrize("options", [{"k": -1}, {"weight": 1.5}, {"words": -0.1}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(UsageError, match="confidence: k is"):
        Confidence(by=speaker([], []), **options)
