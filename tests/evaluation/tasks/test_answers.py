"""Exact answers, and margins between two."""

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.evaluation.suite import Subject
from turnsmith.evaluation.tasks.exact import Exact
from turnsmith.evaluation.tasks.margins import Margins
from turnsmith.models.score import Scoring
from turnsmith.testing import chat, model, tokenizer
from turnsmith.types import Example, Message, Reply, Usage

RENDERER = Renderer(tokenizer())
SIDES = {"chosen": "Yes, please.", "rejected": "No."}


class Given:
    """A bench with these examples."""

    def __init__(self, *given):
        self.given = given

    def examples(self, name):
        return self.given


def example(name, *said, **parts):
    return Example(parts or {"text": chat(*said)}, {}, {"id": name})


def subject(answers=None):
    """The tiny model; or one that answers the last message so."""
    whole = model()

    def by(conversations, *, sampling=None, seed=0):
        said = [answers[conversation.messages[-1].content] for conversation in conversations]
        return [Reply(Message("assistant", text), "stop", Usage(1, 1)) for text in said]

    return Subject("tiny", Scoring(whole).eval(), RENDERER, by, pad)


ONE = example("one", "u: 1 + 1?", "a: 2")
TWO = example("two", "u: Hi", "a: Hello", "u: 2 + 3?", "a: 5", "u: thanks")


def test_an_answer_is_right_letter_by_letter_blanks_at_the_ends_apart():
    items = Exact(on="sums").measure(subject({"1 + 1?": " 2\n", "2 + 3?": "5."}), Given(ONE, TWO))
    assert [(item.id, item.values["right"]) for item in items] == [("one", 1.0), ("two", 0.0)]
    assert items[1].shown == {"text": "5.", "reference": "5"}


def test_count_takes_the_first():
    items = Exact(on="sums", count=1).measure(subject({"1 + 1?": "2"}), Given(ONE, TWO))
    assert [item.id for item in items] == ["one"]


def test_data_without_an_answer_are_an_error():
    with pytest.raises(DataError, match="'odd' of 'sums' has no answer to compare with"):
        Exact(on="sums").measure(subject({}), Given(example("odd", "u: Hi")))


def pair(name, chosen, rejected):
    before = ["u: Hi", "a: Hello", "u: And?"]
    parts = {"chosen": chat(*before, f"a: {chosen}"), "rejected": chat(*before, f"a: {rejected}")}
    return example(name, **parts)


@torch.no_grad()
def logprob(scoring, conversation):
    """Of the last answer with its stop token, by plain transformers."""
    start = len(RENDERER.prompt(conversation.upto(-1)))
    ids = RENDERER.render(conversation)[0].inputs.tolist()
    stop = len(ids) - ids[::-1].index(RENDERER.stop)  # what follows it is the template's
    logits = scoring.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logits[at - 1, ids[at]]) for at in range(start, stop))


def test_a_margin_is_the_difference_of_the_log_likelihoods_of_the_last_answers():
    measured = subject()
    given = pair("first", "A story.", "The sea and the cat."), pair("second", "No.", "Yes.")
    items = Margins(on="pairs").measure(measured, Given(*given))
    for item, one in zip(items, given, strict=True):
        expected = logprob(measured.scoring, one.parts["chosen"]) - logprob(
            measured.scoring, one.parts["rejected"]
        )
        assert item.values["margin"] == pytest.approx(expected, abs=1e-4)  # fp32, sums of some ten tokens
        assert item.values["ahead"] == float(expected > 0)


def test_of_conversations_that_are_compared_as_wholes_all_answers_count():
    measured = subject()
    sides = {name: chat("u: Tea?", f"a: {said}", "u: Why?", "a: So.") for name, said in SIDES.items()}
    last, every = (
        Margins(on="pairs", answers=which).measure(measured, Given(example("x", **sides)))[0].values["margin"]
        for which in ("last", "all")
    )
    first = [
        logprob(measured.scoring, sides[name].upto(2)) for name in ("chosen", "rejected")
    ]  # what the first answers alone add
    assert every == pytest.approx(last + first[0] - first[1], abs=1e-4)
    assert every != pytest.approx(last, abs=1e-2)


def test_pairs_that_do_not_fit_are_left_out():
    items = Margins(on="pairs", length=60).measure(
        subject(), Given(pair("a", "x", "y"), pair("b", "x", "y " * 60))
    )
    assert [item.id for item in items] == ["a"]
