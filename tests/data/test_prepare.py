"""Examples to what is streamed: too long ones cut, dropped or refused, and every loss counted."""

from functools import cache

import pytest

from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.shorten import APART, CUT_TEXT, DROPPED, NO_TURN, REASONS
from turnsmith.errors import DataError
from turnsmith.testing import chat, tokenizer
from turnsmith.types import Conversation, Example, Message

renderer = cache(lambda: Renderer(tokenizer()))
SHORT = chat("u: Hi", "a: Hello")
LONG = chat("u: Hi", "a: Hello", "u: Tell me a story", "a: There was a boat on the sea and a boy")


def rendered(renderer, *arguments, **options):
    """The one sequence that a conversation becomes."""
    [tokens] = renderer.render(*arguments, **options)
    return tokens


def example(name, **parts):
    return Example(parts or {"text": SHORT}, {"rating": 3.0}, {"id": name})


def length(conversation):
    return len(rendered(renderer(), conversation))


def done(examples, parts=("text",), **options):
    return prepare(examples, renderer(), parts, **options)


def test_what_fits_is_rendered_whole():
    kept, counts = done([example("a"), example("b", text=LONG)], length=length(LONG))
    assert [(one.id, len(one.parts["text"][0])) for one in kept] == [
        ("a", length(SHORT)),
        ("b", length(LONG)),
    ]
    assert kept[0].values == {"rating": 3.0}
    assert not counts


def test_values_of_several_conversations_go_with_the_part_that_has_them():
    values = {"rating": 3.0, "reward": (1.0, 0.5)}
    made = Example({"replies": (SHORT, LONG), "text": SHORT}, values, {"id": "a"})
    kept, _ = done([made], ("replies",), length=length(LONG))
    assert kept[0].values == values
    kept, _ = done([made], length=length(LONG))
    assert kept[0].values == {"rating": 3.0}


def test_as_many_values_as_conversations_are_needed():
    made = Example({"replies": (SHORT, LONG)}, {"reward": (1.0,)}, {"id": "a"})
    with pytest.raises(
        DataError, match="'a' has 1 numbers as 'reward', and its part 'replies' has 2 sequences"
    ):
        done([made], ("replies",), length=length(LONG))


def test_a_long_chat_is_cut_behind_the_last_whole_turn():
    ((kept,), counts) = done([example("a", text=LONG)], length=length(LONG) - 3, over="right")
    (tokens,) = kept.parts["text"]
    assert tokens.inputs.tolist() == rendered(renderer(), SHORT).inputs.tolist()[:-1]  # up to the stop token
    assert counts == {REASONS["right"]: 1}


def test_where_not_one_turn_fits_it_is_dropped_and_counted():
    story = example("story", text=chat("u: Hi", "a: There was a boat on the sea and a boy"))
    kept, counts = done([example("a"), story], length=length(SHORT), over="right")
    assert [one.id for one in kept] == ["a"]
    assert counts == {NO_TURN: 1}


def test_long_chats_may_be_dropped():
    kept, counts = done([example("a"), example("b", text=LONG)], length=length(SHORT), over="drop")
    assert [one.id for one in kept] == ["a"]
    assert counts == {DROPPED: 1}


def test_without_a_word_on_it_long_chats_are_refused_with_both_lengths_and_the_ways_out():
    said = f"'b' has {length(LONG)} tokens, the limit is {length(SHORT)}: raise fit.length, or .* fit.over"
    with pytest.raises(DataError, match=f"{said}.* drop .* oldest .* right .* left"):
        done([example("a"), example("b", text=LONG)], length=length(SHORT))


def test_a_pair_is_dropped_whole_and_never_cut_on_the_right():
    pair = example("pair", chosen=LONG, rejected=SHORT)
    kept, counts = done(
        [pair, example("b", chosen=SHORT, rejected=SHORT)],
        ("chosen", "rejected"),
        length=30 + length(SHORT),
        over="right",
    )
    assert [one.id for one in kept] == ["b"]
    assert counts == {APART: 1}


def test_replies_are_dropped_together():
    several = example("several", replies=(SHORT, LONG))
    given = [several, example("b", replies=(SHORT, SHORT))]
    kept, _ = done(given, ("replies",), length=length(SHORT), over="drop")
    assert [one.id for one in kept] == ["b"]
    assert len(kept[0].parts["replies"]) == 2


def test_raw_text_is_cut_anywhere():
    text = Conversation((Message("text", "Once upon a time there was a boat"),))
    ((kept,), counts) = done([example("a", text=text)], length=5, over="right")
    assert kept.parts["text"][0].inputs.tolist() == rendered(renderer(), text).inputs.tolist()[:5]
    assert counts == {CUT_TEXT: 1}


@pytest.mark.parametrize(("share", "raised"), [(0.5, False), (0.49, True)])
def test_losing_more_than_the_allowed_share_is_an_error(share, raised):
    both = [example("a"), example("b", text=LONG)]
    if raised:
        with pytest.raises(DataError, match=r"1 of 2 examples do not fit into \d+ tokens: raise fit.length"):
            done(both, length=length(SHORT), over="drop", max_dropped=share)
    else:
        assert len(done(both, length=length(SHORT), over="drop", max_dropped=share)[0]) == 1


def test_losing_everything_is_an_error_whatever_is_allowed():
    with pytest.raises(DataError, match="1 of 1 examples do not fit"):
        done([example("a")], length=2, max_dropped=1.0, over="oldest")


def test_a_missing_part_is_named_with_those_that_are_there():
    with pytest.raises(
        DataError, match="example 'a' has no part 'chosen', which the objective needs; it has text"
    ):
        done([example("a")], ("chosen", "rejected"), length=100)


@pytest.mark.parametrize(
    "silent",
    [
        chat("u: Hi"),
        chat("u: Hi", "a:"),
        chat("s: Be kind."),
        chat("u: Hi").then(Message("assistant", "  \n")),
        chat("u: Hi").then(Message("assistant", "Hello", weight=0.0)),
    ],
)
def test_a_chat_with_nothing_to_learn_from_is_named(silent):
    with pytest.raises(
        DataError, match="example 'quiet' has no assistant text to learn from in its part 'text'"
    ):
        done([example("a"), example("quiet", text=silent)], length=100)


def test_only_the_last_answer_learns_where_that_is_asked_for():
    ((kept,), _) = done([example("a", text=LONG)], length=1000, train="last")
    (tokens,) = kept.parts["text"]
    assert set(tokens.turns[tokens.weights > 0].tolist()) == {3}
