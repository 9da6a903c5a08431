"""Class-conditioned fine-tuning (C-RLFT): the checks of its card, by number, and the stages around it."""

from collections import Counter
from math import exp
from random import Random

import numpy as np
import pytest
import torch

from turnsmith.data.even import each_message
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.objectives.likelihood import sft
from turnsmith.stages.conditioned import classed, conditioned, opposed, under_each
from turnsmith.testing import chat, scores, tokenizer, tokens
from turnsmith.train.method import unit_weights
from turnsmith.types import Conversation, Example, Message, Sight

WEIGHTS = {"GPT4": 1.0, "GPT3": 0.1}
TALK = ("s: Be kind.", "u: Hi", "a: Hello there", "u: And you?", "a: Fine.")


def example(name="x", condition="GPT4", said=TALK, **values):
    return Example({"text": chat(*said)}, values, {"id": name, "condition": condition})


def run(*data, counts=None, **options):
    return list(conditioned(data, counts=Counter() if counts is None else counts, **options))


def rendered(made, train="assistant"):
    (sequence,) = Renderer(tokenizer()).render(made.parts["text"], train, "x")
    return sequence


def classes(values, shares=None, counts=None, **options):
    data = [example(str(number), value=one) for number, one in enumerate(values)]
    halves = shares or {"poor": 0.5, "good": 0.5}
    found = Counter() if counts is None else counts
    given = {"by": "value", "rng": Random(0)} | options
    return [one.meta["condition"] for one in classed(data, shares=halves, counts=found, **given)]


def mean(made, logprobs):
    """What the loop makes of the losses of one window: their weighted sum over the sum of weights."""
    found = scores({"text": logprobs})
    weights = torch.cat([torch.full((len(own),), weight) for own, weight in zip(logprobs, made, strict=True)])
    found.weights.copy_(weights)
    return float((sft(found).values.detach() * unit_weights("token", found)).sum() / weights.double().sum())


# ------------------------------------------------------------------------------ the card's checks


def test_1_weights_of_1_and_an_empty_condition_change_nothing_that_is_trained():
    plain, made = rendered(example()), rendered(*run(example(), to="", weights={"GPT4": 1.0}))
    assert np.array_equal(plain.inputs, made.inputs)
    assert np.array_equal(plain.weights, made.weights)
    assert plain.weights.sum() > 0


def test_2_a_batch_of_poor_examples_alone_is_not_weighed_down():
    logprobs = [[-1.0, -3.0], [-2.0]]
    # (1 + 3 + 2) / 3 = 2, whatever the one weight is.
    assert mean([1.0, 1.0], logprobs) == pytest.approx(2, abs=1e-12)
    assert mean([0.1, 0.1], logprobs) == pytest.approx(2, abs=1e-6)  # 0.1 is no number of float32


def test_3_of_two_examples_as_long_the_poor_one_counts_a_tenth():
    # e = 2, s = 5: (1 * 2 + 0.1 * 5) / 1.1 = 2.5 / 1.1
    assert mean([1.0, 0.1], [[-2.0], [-5.0]]) == pytest.approx(2.5 / 1.1, abs=1e-6)


def test_4_conditions_headers_and_users_weigh_nothing_and_the_end_of_a_reply_as_much_as_the_reply():
    words = tokenizer()
    sequence = rendered(*run(example(condition="GPT3"), weights=WEIGHTS))
    said = words.decode(sequence.inputs[sequence.weights > 0])
    assert said == "Hello there<|im_end|>Fine.<|im_end|>"
    assert set(sequence.weights[sequence.weights > 0].tolist()) == {np.float32(0.1)}
    assert words.decode(sequence.inputs).count("GPT3\n") == 2  # before each of the user's messages


def test_5_where_messages_count_alike_a_conversation_weighs_as_its_messages_do():
    sight = Sight(np.random.default_rng(0), 0, 1, vocabulary=320)
    long, short = (
        rendered(*run(example(condition=name, said=("u: a", f"a: {said}", "u: c", "a: d")), weights=WEIGHTS))
        for name, said in (("GPT4", "b"), ("GPT3", "The cat sat on the mat while the dog slept."))
    )
    assert each_message(long, sight).weights.sum() == pytest.approx(2.0, abs=1e-6)
    assert each_message(short, sight).weights.sum() == pytest.approx(0.2, abs=1e-6)
    plain = tokens([5, 6, 7, 8], trained=2)
    assert each_message(plain, sight).weights.tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("said", "weights"), [(("u: Hi", "u: There?"), WEIGHTS), (TALK, {"GPT4": 0.0})], ids=["no reply", "zero"]
)
def test_6_what_has_nothing_to_learn_is_left_out_and_counted(said, weights):
    counts = Counter()
    assert run(example(said=said), weights=weights, counts=counts) == []
    assert counts == {"nothing in it learns": 1}


def test_6_of_an_empty_reply_its_end_alone_is_trained():
    sequence = rendered(*run(example(said=("u: Hi", "a:", "u: Hm?", "a: Yes")), weights=WEIGHTS))
    assert tokenizer().decode(sequence.inputs[sequence.weights > 0]) == "<|im_end|>Yes<|im_end|>"


def test_6_any_condition_may_be_asked_for_but_none_without_a_weight_is_learnt():
    (made,) = run(Example({"text": chat(*TALK)}), to="Math Correct")  # which needs no class of the example
    assert made.parts["text"].messages[1].content == "Math Correct\nHi"
    with pytest.raises(DataError, match="example 'x' is of the class 'GPT5'; `weights` has"):
        run(example(condition="GPT5"), weights=WEIGHTS)


def test_6_a_user_cannot_say_the_end_of_a_turn():
    words = tokenizer()
    sequence = rendered(*run(example(said=("u: Hi<|im_end|>", "a: Yes"))))
    ends = int((sequence.inputs == words.convert_tokens_to_ids("<|im_end|>")).sum())
    assert ends == 2  # of the user's message and of the reply, not of what the user wrote


# ---------------------------------------------------------------------------------- the condition


def test_the_weight_of_a_message_is_multiplied_and_where_none_is_given_none_is_set():
    half = Conversation((Message("user", "Hi"), Message("assistant", "Yes", weight=0.5)))
    given = Example({"text": half}, {}, {"id": "x", "condition": "GPT3"})
    (made,) = run(given, weights=WEIGHTS)
    assert made.parts["text"].messages[1].weight == pytest.approx(0.05, abs=1e-12)
    (bare,) = run(example())
    assert [one.weight for one in bare.parts["text"].messages] == [None] * 5


def test_the_papers_weights_are_those_of_its_rewards():
    # exp((alpha - 1) / beta) with alpha = 0 and beta = 1 / ln 10 is a tenth.
    assert exp((0 - 1) * np.log(10)) == pytest.approx(WEIGHTS["GPT3"] / WEIGHTS["GPT4"], abs=1e-12)


def test_a_template_puts_texts_as_they_are_and_needs_what_was_said():
    given = example(condition="{said}", said=("u: {condition}", "a: Yes"))
    (made,) = run(given, template="[{condition}] {said}!")
    assert made.parts["text"].messages[0].content == "[{said}] {condition}!"
    with pytest.raises(UsageError, match=r"has no \{said\} in it"):
        run(example(), template="{condition}")


def test_an_example_without_a_class_is_named():
    with pytest.raises(
        DataError, match=r"example 'x' has no class under 'condition'.*`classed` and `tagged`"
    ):
        run(Example({"text": chat("u: a", "a: b")}, {}, {"id": "x"}))


# --------------------------------------------------------------------------- classes and their use


def test_classes_are_shares_of_the_order_and_of_equals_the_earlier_is_lower():
    assert classes([3, 1, 2, 2]) == ["good", "poor", "poor", "good"]
    counts = Counter()
    thirds = {"poor": 0.25, "middling": 0.5, "good": 0.25}
    assert classes([3, 1, 2, 2], thirds, keep=("poor", "good"), counts=counts) == ["good", "poor"]
    assert counts == {"of the class 'middling'": 2}


def test_classes_that_are_drawn_have_the_same_sizes_and_do_not_follow_the_value():
    drawn = classes(range(100), by=None)
    assert drawn.count("good") == 50
    assert 15 < drawn[50:].count("good") < 35  # by the value 50; 25 are expected, with a spread of 2.5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shares": {"poor": 0.5, "good": 0.6}}, UsageError, "together they have to be 1"),
        ({"keep": ("god",)}, UsageError, "keep has 'god', which is not among"),
        ({"by": "rating"}, DataError, "example '0' has no value 'rating' that is one number; it has value"),
    ],
)
def test_what_makes_no_classes_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        classes([1, 2], **options)


def test_a_conversation_is_chosen_under_its_own_condition_and_rejected_under_the_other():
    (made,) = under_each([example(said=("u: Hi", "a: Yes"))], classes=("GPT3", "GPT4"))
    said = [made.parts[name].messages[0].content for name in ("chosen", "rejected")]
    assert said == ["GPT4\nHi", "GPT3\nHi"]
    with pytest.raises(DataError, match="of the class 'GPT4', not one of"):
        list(under_each([example()], classes=("poor", "good")))


def test_pairs_are_of_both_classes_and_what_has_no_partner_is_counted():
    data = [example(f"{name}{number}", name) for name in ("poor", "good") for number in range(3)]
    counts = Counter()
    given = [*data[:5], example("z", "other")]
    made = list(opposed(given, classes=("poor", "good"), rng=Random(0), counts=counts))
    assert len(made) == 2
    assert all(one.id.split("/")[0].startswith("good") for one in made)
    assert counts == {"of neither class": 1, "have no partner": 1}
