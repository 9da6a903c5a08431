"""Feedback in words (DRESS): the checks of its card, by number, and the stages, critic and data around it."""

from collections import Counter
from functools import cache
from random import Random

import numpy as np
import pytest
import torch

from turnsmith.agents.examiner import GOOD, Examiner, judged
from turnsmith.data import formats
from turnsmith.data.batch import pack
from turnsmith.data.critique import REQUEST, Critique, critique_of, rating_of, written
from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.registry import Registry
from turnsmith.stages.interactions import condition, interactions, under_critique, wishes
from turnsmith.testing import chat, model, tokenizer
from turnsmith.types import Conversation, Example, Failure, Message, Rendered, Reply

registry = cache(Registry)
ASKED = "Tell me about tea in one sentence of at most 5 words that has the word 'hot' in it."
TURNS = (("Tea?", "No.", 2, "It is rude."), ("Be kind.", "Yes, tea.", 4, "It is kind."))


def example(*turns, id="x"):
    """Each turn: what is asked, the reply, and its rating and critique, None where there is none."""
    messages = []
    for asked, said, rating, critique in turns or TURNS:
        fields = {name: one for name, one in (("rating", rating), ("critique", critique)) if one is not None}
        messages += [Message("user", asked), Message("assistant", said, fields=fields)]
    return Example({"text": Conversation(tuple(messages))}, {}, {"id": id})


def run(*data, counts=None, **options):
    return list(under_critique(data, counts=Counter() if counts is None else counts, **options))


def rendered(made, train="last"):
    (sequence,) = Renderer(tokenizer()).render(made.parts["text"], train, "x")
    return sequence


def text(made):
    return tokenizer().decode(rendered(made).inputs)


def learnt(made, train="last"):
    sequence = rendered(made, train)
    return tokenizer().decode(sequence.inputs[sequence.weights > 0])


def read(*rows):
    skipped = Counter()
    named = [(f"r-{at}", row) for at, row in enumerate(rows)]
    return list(formats.examples(named, "feedback", registry(), "rows", skipped))


# ------------------------------------------------------------------------------ the card's checks


@pytest.mark.parametrize("train", ["last", "assistant"])
def test_1_the_reply_and_its_end_learn_and_no_condition_question_or_earlier_reply(train):
    first, second = run(example())
    assert learnt(first, train) == "No.<|im_end|>"
    assert learnt(second, train) == "Yes, tea.<|im_end|>"


def test_1_without_a_condition_it_is_plain_fine_tuning():
    (made,) = run(example(TURNS[0]), template="")
    plain = rendered(Example({"text": chat("u: Tea?", "a: No.")}))
    assert np.array_equal(rendered(made).inputs, plain.inputs)
    assert np.array_equal(rendered(made).weights, plain.weights)


def test_2_where_all_is_rated_alike_every_question_has_the_same_words_behind_it():
    alike = [example((asked, "Yes.", 3, "Fine."), id=asked) for asked in ("a", "b")]
    said = [one.parts["text"].messages[0].content for one in run(*alike)]
    assert said == [f"{asked}\n(The next reply is rated 3 of 4: Fine.)" for asked in ("a", "b")]


def test_3_a_condition_stands_before_its_reply_and_not_in_what_later_turns_read():
    first, second = run(example())
    assert text(first).index("2 of 4: It is rude.") < text(first).index("No.")
    assert "rude" not in text(second)
    assert "2 of 4" not in text(second)
    assert text(second).count("4 of 4: It is kind.") == 1
    assert all(not one.fields for one in second.parts["text"].messages)


@pytest.mark.parametrize("given", ["4", 4, " 4 "])
def test_4_a_rating_may_be_a_number_or_text(given):
    assert rating_of(given, "here") == 4


@pytest.mark.parametrize("given", [0, 5, "5", "", "four", 2.5, True, None, "-1"])
def test_4_what_is_no_rating_from_1_to_4_is_refused_with_its_place(given):
    with pytest.raises(DataError, match=r"here: the rating is .*from 1 to 4"):
        rating_of(given, "here")
    with pytest.raises(DataError, match="message 1 of example 'x': the rating is 7"):
        run(example(("Tea?", "No.", 7, "")))


def test_5_after_training_another_rating_gives_another_reply():
    """Before, the likelihood of the good reply differs by the prompt alone: far less than it does after."""
    whole = model(vocabulary=len(tokenizer()))
    forest.attach(whole)
    data = run(example(("Tea?", "Yes.", 4, "")), example(("Tea?", "No.", 1, "")))
    swapped = run(example(("Tea?", "Yes.", 1, "")))
    batch = pack([Rendered(str(at), {"text": (rendered(one),)}) for at, one in enumerate(data)])
    probe = pack(
        [Rendered("a", {"text": (rendered(data[0]),)}), Rendered("b", {"text": (rendered(swapped[0]),)})]
    )

    def gap():
        with torch.no_grad():
            under_4, under_1 = Scoring(whole)(probe).sums("text").tolist()
        return under_4 - under_1

    before = gap()
    optimiser = torch.optim.Adam(whole.parameters(), lr=1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        sft(Scoring(whole)(batch)).values.mean().backward()
        optimiser.step()
    assert gap() > 1
    assert gap() > 3 * abs(before)


def test_6_one_turn_an_empty_critique_a_missing_rating_and_an_empty_reply():
    counts = Counter()
    (scored,) = run(example(("Tea?", "No.", 2, "")), counts=counts)
    assert scored.parts["text"].messages[0].content == "Tea?\n(The next reply is rated 2 of 4)"
    assert run(example(("Tea?", "No.", None, "Rude.")), counts=counts) == []
    assert counts == {"replies without a rating": 1}
    _, last = run(example(TURNS[0], ("Well?", "", 1, "Nothing.")))
    sequence = rendered(last)
    assert tokenizer().decode(sequence.inputs[sequence.weights > 0]) == "<|im_end|>"


# ---------------------------------------------------------------------------------- what is learnt


def test_each_reply_or_the_last_and_those_rated_high_enough():
    counts = Counter()
    assert [one.meta["rating"] for one in run(example())] == [2, 4]
    assert [one.meta["rating"] for one in run(example(), turns="last")] == [4]
    assert [one.id for one in run(example(), least=3, counts=counts)] == ["x/1"]
    assert counts == {"replies rated below 3": 1}


def test_a_reply_that_nobody_asked_for_can_have_no_condition():
    messages = (
        Message("user", "a"),
        Message("assistant", "b"),
        Message("assistant", "c", fields={"rating": 1}),
    )
    with pytest.raises(DataError, match="in the message of a user that is answered, and here is none"):
        run(Example({"text": Conversation(messages)}, {}, {"id": "x"}))


# ----------------------------------------------------------------------------------------- the data


def test_rows_of_both_spellings_are_read_and_the_caption_stands_before_the_first_question():
    turns = [
        {"user": "What is it?", "model": "A cat.", "rating": " 3 ", "critique NLF": "Short."},
        {"user": "Say more.", "model": "A grey cat.", "rating": 4, "critique_NLF": "Good."},
        {"user": "Thanks.", "model": "Yes."},
    ]
    (made,) = read({"image_id": "7", "caption": "A grey cat.", "interaction": turns})
    messages = made.parts["text"].messages
    assert messages[0].content == "A grey cat.\n\nWhat is it?"
    assert [one.fields for one in messages if one.role == "assistant"] == [
        {"rating": 3, "critique": "Short."},
        {"rating": 4, "critique": "Good."},
        {"critique": ""},
    ]
    assert made.meta["image_id"] == "7"


def test_a_row_with_another_rating_is_refused_by_its_place():
    with pytest.raises(DataError, match=r"interaction\[0\]: the rating is '5'"):
        read({"interaction": [{"user": "a", "model": "b", "rating": "5", "critique NLF": ""}]})
    with pytest.raises(DataError, match=r"interaction\[0\] is 'a', no turn"):
        read({"interaction": ["a"]})


# --------------------------------------------------------------------------------------- the critic


def test_what_a_critic_says_is_read_as_it_is_written():
    one = Critique(3, "Long,\nand dull.", "Be brief.")
    assert critique_of(written(one)) == one
    assert critique_of(" rating: 4\nCRITIQUE: Good.") == (4, "Good.", "")
    for wrong in ("Good.", "Rating: 9\nCritique: x"):
        with pytest.raises(DataError, match="critic"):
            critique_of(wrong)


@pytest.mark.parametrize(
    ("said", "rating", "critique"),
    [
        ("Tea is a hot drink.", 4, GOOD),
        ("Hot! Tea is that.", 3, "It is not one sentence."),
        ("Tea is a hot drink that people like.", 3, "It is too long."),
        ("Tea is a drink.", 3, "The word is missing."),
        ("Shots", 2, "It is not one sentence. The word is missing."),
        ("", 1, "It is not one sentence. It is too long. The word is missing."),
    ],
)
def test_the_examiner_counts_wishes_that_are_met(said, rating, critique):
    assert judged(said, "hot", 5)[:2] == (rating, critique)


def test_the_examiner_finds_the_wishes_in_the_first_request_and_is_asked_as_critics_are():
    given = chat(f"u: {ASKED}", "a: Tea.", "u: Use the word 'cold'.", "a: Tea is hot.", f"u: {REQUEST}")
    (reply,) = Examiner()([given])
    assert critique_of(reply.message.content).rating == 4
    failures = Examiner()([chat("u: Hi", "a: Yes", f"u: {REQUEST}"), chat(f"u: {ASKED}", "a: Tea.")])
    assert [type(one) for one in failures] == [Failure, Failure]


def test_wishes_are_such_that_the_examiner_can_judge_them():
    made = list(wishes([], count=3, rng=Random(0)))
    whole = [one.parts["text"].then(Message("assistant", "Hm."), Message("user", REQUEST)) for one in made]
    assert [critique_of(one.message.content).rating for one in Examiner()(whole)] == [3, 3, 3]  # no word


# --------------------------------------------------------------------------------- the interactions


def says(*rounds):
    """A chat that says these texts, one list for each time that it is asked; None is a failure."""
    turns = iter(rounds)

    def reply(asked, *, sampling=None, seed=0):
        return [Failure("closed") if one is None else Reply.scripted(one) for one in next(turns)]

    return reply


def talk(by, critic=None, counts=None, count=1, **options):
    data = [Example({"text": chat(f"u: {ASKED}")}, {}, {"id": str(at)}) for at in range(count)]
    found = Counter() if counts is None else counts
    return list(interactions(data, by=by, critic=critic or Examiner(), counts=found, **options))


def test_advice_is_what_the_user_says_next_until_nothing_is_left_to_say():
    (made,) = talk(says(["Tea is wet."], ["Tea is hot."], ["never asked"]), turns=3)
    messages = made.parts["text"].messages
    assert [one.content for one in messages] == [ASKED, "Tea is wet.", "Use the word 'hot'.", "Tea is hot."]
    assert [one.fields.get("rating") for one in messages] == [None, 3, None, 4]
    assert messages[1].fields["critique"] == "The word is missing."


def test_an_interaction_ends_with_a_reply_after_so_many_turns():
    (made,) = talk(says(["Tea."], ["Tea."]), turns=2)
    assert [one.role for one in made.parts["text"].messages] == ["user", "assistant", "user", "assistant"]


def test_what_did_not_come_or_cannot_be_read_is_counted_and_the_turns_before_it_stay():
    counts = Counter()
    made = talk(says([None, "Tea is wet."], [None]), counts=counts, count=2)
    assert [len(one.parts["text"].messages) for one in made] == [2]
    assert counts == {"answers that did not come: closed": 2, "have no judged answer": 1}
    counts = Counter()
    assert talk(says(["Tea.", "Tea."]), says([None, "Fine."]), counts, count=2) == []
    assert counts == {
        "critiques that did not come: closed": 1,
        "critiques that cannot be read": 1,
        "have no judged answer": 2,
    }


def test_an_interaction_has_a_turn():
    with pytest.raises(UsageError, match="turns is 0: one at least"):
        talk(says([]), turns=0)


def test_a_condition_says_the_rating_and_the_critique_where_there_is_one():
    assert condition(1, " Dull. ") == "1 of 4: Dull."
