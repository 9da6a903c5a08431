"""What is said of an answer before it comes."""

from collections import Counter
from random import Random

import pytest

from turnsmith.data.render import Renderer
from turnsmith.errors import DataError, UsageError
from turnsmith.stages.described import described, steps
from turnsmith.testing import tokenizer
from turnsmith.types import Conversation, Example, Message

LABELS = {"quality": {"value": 0.75, "count": 3}, "humor": {"value": 0.25, "count": 3}, "spam": {"value": 0}}
TABLE = {"name": ["spam", "quality"], "value": [0.0, 0.75]}


def asked(*answers):
    """Each answer is a text and its fields."""
    pairs = [(Message("user", "Go on"), Message("assistant", text, fields=more)) for text, more in answers]
    return Conversation(tuple(message for pair in pairs for message in pair))


def run(*conversations, part="text", seed=0, **options):
    counts = Counter()
    whole = conversations if part == "replies" else conversations[0]
    (made,) = described([Example({part: whole})], rng=Random(seed), counts=counts, **options)
    return made.parts[part], counts


def told(one):
    return [m.content.split("\n") for m in one.messages if m.role == "system"]


def test_what_is_known_of_each_answer_stands_before_it():
    made, counts = run(
        asked(("one two three four five", {"lang": "en", "labels": LABELS}), ("", {"labels": TABLE})),
        dropout=0,
    )
    assert [m.role for m in made.messages] == ["user", "system", "assistant"] * 2
    # 0.75 and 0.25 are exact, and round to the even digit.
    assert [sorted(one) for one in told(made)] == [
        ["humor: 0.2", "lang: en", "length: 2", "quality: 0.8"],
        ["length: 1", "quality: 0.8"],
    ]
    assert not counts


def test_the_order_is_drawn_and_a_context_of_more_lines_is_last():
    fields = {"lang": "en", "labels": LABELS, "context": "Once\nupon a time"}
    orders = {tuple(told(run(asked(("Hi", fields)), seed=seed, dropout=0)[0])[0]) for seed in range(20)}
    assert len(orders) > 5
    assert {one[-2:] for one in orders} == {("context: Once", "upon a time")}


def test_each_line_is_left_out_half_of_the_time_and_answers_without_any_are_counted():
    fields = {"lang": "en", "labels": LABELS}
    lines, bare = Counter(), 0
    for seed in range(400):
        made, counts = run(asked(("Hi", fields)), seed=seed)
        lines.update(name.split(":")[0] for one in told(made) for name in one)
        bare += counts["answers without a description"]
    assert {name: count / 400 for name, count in lines.items()} == {
        name: pytest.approx(0.5, abs=0.1) for name in ("lang", "quality", "humor", "length")
    }  # four standard deviations
    assert bare / 400 == pytest.approx(1 / 16, abs=0.05)


def test_without_anything_known_there_is_no_message():
    made, counts = run(asked(("Hi", {})), length=False)
    assert [m.role for m in made.messages] == ["user", "assistant"]
    assert counts == {"answers without a description": 1}


def test_what_several_replies_share_is_described_alike():
    start = (("Hello", {"lang": "en", "labels": LABELS}),)
    made, _ = run(*(asked(*start, (text, {"lang": "de"})) for text in ("a", "b c")), part="replies")
    first, second = (told(one) for one in made)
    assert first[0] == second[0]


def test_descriptions_are_read_and_not_learnt():
    made, _ = run(asked(("Hi", {"lang": "en"})), dropout=0, length=False)
    words = tokenizer()
    (tokens,) = Renderer(words).render(made)
    assert "lang: en" in words.decode(tokens.inputs)
    assert words.decode(tokens.targets[tokens.weights > 0]) == "Hi<|im_end|>"


def test_lengths_are_counted_in_fives_of_words():
    """Check of card 75: that of an empty text is 1."""
    assert [steps(" ".join(["word"] * n)) for n in (0, 4, 5, 12)] == [1, 1, 2, 3]


@pytest.mark.parametrize("value", [1.5, True, "good"])
def test_labels_that_are_no_shares_are_refused(value):
    with pytest.raises(DataError, match="message 'm' has the quality"):
        run(asked(("Hi", {"message_id": "m", "labels": {"quality": {"value": value}}})))


def test_a_dropout_that_is_no_probability_is_refused():
    with pytest.raises(UsageError, match=r"dropout is 1\.5, and has to be from 0 to 1"):
        run(asked(("Hi", {})), dropout=1.5)
