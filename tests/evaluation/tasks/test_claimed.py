"""Right and wrong claims of answers, counted by hand."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.evaluation.alone import alone
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.claimed import Claims, Trusted
from turnsmith.scorers.claimed import Supported
from turnsmith.testing import TinyBench, chat
from turnsmith.types import Example, Failure, Reply

SOURCE = "Ada was born in Rome. Ada sang. Ada died."


def example(id, said="..."):
    return Example({"text": chat(f"u: {id}?", f"a: {said}")}, {}, {"id": id, "source": SOURCE})


def measured(answers, n=1):
    """A subject that says the texts in turn to each prompt."""
    left = {f"{id}?": list(texts) for id, texts in answers.items()}

    def says(conversations, *, sampling=None, seed=0):
        said = [left[one.messages[-1].content].pop(0) for one in conversations]
        return [one if isinstance(one, Failure) else Reply.scripted(one) for one in said]

    bench = TinyBench({"asked": [example(id) for id in answers]})
    task = Claims(on="asked", by=Supported(), n=n)
    return task, task.measure(Subject.answering("says", says), bench)


def figures(task, items):
    return {row["name"]: row["after"] for row in alone(task.metrics, items)}


def test_claims_are_counted_by_answer_and_shares_averaged_over_answers():
    """Answers: 2 of 3 right; 0 of 1; none at all. So 2/3 right and 2/3 wrong ones to an answer, and the share
    is (2/3 + 0) / 2 over the two that claim something."""
    said = {"a": ["Ada sang. Ada died. Ada ran."], "b": ["Ada ran."], "c": ["..."]}
    assert figures(*measured(said)) == {
        "right claims": pytest.approx(2 / 3),
        "wrong claims": pytest.approx(2 / 3),
        "share of right claims": pytest.approx(1 / 3),
        "answers without a claim": pytest.approx(1 / 3),
    }


def test_fewer_claims_with_a_higher_share_show_in_all_figures():
    found = figures(*measured({"a": ["Ada sang. Ada died. Ada ran.", "Ada sang."]}, n=2))
    assert found["right claims"] == 1.5  # (2 + 1) / 2
    assert found["wrong claims"] == 0.5
    assert found["share of right claims"] == pytest.approx((2 / 3 + 1) / 2)


def test_a_prompt_that_is_not_answered_fails():
    _, items = measured({"a": [Failure("away")]})
    assert [(one.failed, one.values) for one in items] == [("away", {})]


def test_a_scorer_is_held_against_the_truth_claim_by_claim():
    """Longer claims are trusted: 9 letters of the right ones, 13 of the wrong one."""
    bench = TinyBench({"asked": [example("a", "Ada sang. Ada was away. Ada died.")]})

    def lengths(conversations, examples):
        return [float(len(one.messages[-1].content)) for one in conversations]

    task = Trusted(on="asked", by=lengths, truth=Supported())
    items = task.measure(bench.tuned, bench)
    assert [one.id for one in items] == ["a/0", "a/1", "a/2"]
    assert [(one.values["score"], one.values["label"]) for one in items] == [(9, 1), (13, 0), (9, 1)]
    assert figures(task, items) == {"right claims found": 0.0}  # both right ones are below the wrong one


def test_what_a_scorer_cannot_judge_fails():
    bench = TinyBench({"asked": [example("a", "Ada sang.")]})
    task = Trusted(on="asked", by=lambda asked, _: [None] * len(asked), truth=Supported())
    assert [one.failed for one in task.measure(bench.tuned, bench)] == ["could not be judged"]


def test_no_answers_are_refused():
    with pytest.raises(UsageError, match="n is 0"):
        Claims(on="asked", by=Supported(), n=0)
