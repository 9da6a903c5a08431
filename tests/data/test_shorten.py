"""What is left of examples that are too long, under each policy, and that all parts lose the same."""

import random
from functools import cache

import numpy as np
import pytest

from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.shorten import APART, CUT_TEXT, NO_TURN, REASONS, cut_to_turns, longest_first
from turnsmith.testing import chat, tokenizer
from turnsmith.types import Conversation, Example, Message, Tokens

renderer = cache(lambda: Renderer(tokenizer()))
SAID = ("s: Be brief.", "u: One?", "a: Yes.", "u: Two?", "a: No.", "u: Three?", "a: Why not.")
OTHER = Message("assistant", "Never.")


def example(**parts):
    return Example(parts, {"rating": 3.0}, {"id": "it"})


def length(*said):
    [tokens] = renderer().render(chat(*said))
    return len(tokens)


def left(over, limit, *, train="assistant", **parts):
    """The texts of what is left of each part, and the counts. A short example beside it always stays."""
    short = {
        part: chat("u: Hi", "a: Yo")
        if isinstance(one, Conversation)
        else tuple(chat("u: Hi", "a: Yo") for _ in one)
        for part, one in parts.items()
    }
    given = [Example(short, {}, {"id": "short"}), example(**parts)]
    kept, counts = prepare(given, renderer(), list(parts), length=limit, over=over, train=train)
    texts = [
        {part: [(decoded(one.inputs), learnt(one)) for one in ones] for part, ones in found.parts.items()}
        for found in kept
        if found.id == "it"
    ]
    return (texts[0] if texts else None), counts


def decoded(ids):
    return renderer().tokenizer.decode(ids.tolist())


def learnt(tokens):
    return decoded(tokens.targets[tokens.weights > 0])


def whole(*said):
    [tokens] = renderer().render(chat(*said))
    return decoded(tokens.inputs), learnt(tokens)


@pytest.mark.parametrize("gone", [2, 4])
def test_the_oldest_turns_go_and_the_system_message_stays(gone):
    rest = (SAID[0], *SAID[1 + gone :])
    found, counts = left("oldest", length(*rest), text=chat(*SAID))
    assert found == {"text": [whole(*rest)]}
    assert counts == {REASONS["oldest"]: 1}


def test_no_more_turns_go_than_have_to():
    rest = (SAID[0], *SAID[3:])
    assert left("oldest", length(*rest) - 1, text=chat(*SAID))[0] == {"text": [whole(SAID[0], *SAID[5:])]}


def test_what_is_left_starts_with_a_user():
    said = ("u: One?", "a: Yes.", "a: Really.", "u: Two?", "a: No.")
    limit = length(*said) - 1
    assert left("oldest", limit, text=chat(*said))[0] == {"text": [whole(*said[3:])]}


@pytest.mark.parametrize("said", [SAID[:3], ("a: Hello there", "a: Again"), ("s: Be brief.", "a: Yes.")])
def test_where_the_last_turn_alone_does_not_fit_it_is_dropped(said):
    assert left("oldest", length(*said) - 1, text=chat(*said)) == (None, {NO_TURN: 1})


def test_where_only_turns_that_do_not_learn_are_left_it_is_dropped():
    last = Message("assistant", "Fine.", 0.0)
    said = chat("u: One?", "a: Yes.", "u: Two?").then(last)
    assert left("oldest", length("u: One?", "a: Yes.", "u: Two?"), text=said) == (None, {NO_TURN: 1})


def test_a_pair_loses_the_oldest_turns_that_it_shares():
    start = chat(*SAID[:-1])
    pair = {"chosen": chat(*SAID), "rejected": start.then(OTHER)}
    rest = chat(SAID[0], *SAID[5:-1])
    found, counts = left("oldest", length(SAID[0], *SAID[5:]) + 2, **pair)
    assert found == {"chosen": [whole(SAID[0], *SAID[5:])], "rejected": [whole(*spoken(rest.then(OTHER)))]}
    assert counts == {REASONS["oldest"]: 1}


def spoken(conversation):
    return [f"{message.role[0]}: {message.content}" for message in conversation.messages]


def test_a_pair_that_shares_too_little_is_dropped():
    pair = {"chosen": chat(*SAID), "rejected": chat("s: Be brief.", "u: One?", "a: Never.")}
    assert left("oldest", length(*SAID) - 1, **pair) == (None, {APART: 1})


def test_replies_lose_the_same_turns():
    replies = (chat(*SAID), chat(*SAID[:-1]).then(OTHER))
    found, _ = left("oldest", length(SAID[0], *SAID[3:]) + 2, replies=replies)
    last = chat(SAID[0], *SAID[3:-1]).then(OTHER)
    assert found == {"replies": [whole(SAID[0], *SAID[3:]), whole(*spoken(last))]}


def test_on_the_left_tokens_go_and_of_the_turn_that_is_cut_into_nothing_is_learnt():
    said = ("u: Hi", "a: Hello there, how are you?", "u: And?", "a: Fine.")
    text, learns = whole(*said)
    tail = length("u: And?", "a: Fine.") + 4  # four tokens reach into the first answer
    found, counts = left("left", tail, text=chat(*said))
    ((cut, trained),) = found["text"]
    assert text.endswith(cut)
    assert "you?<|im_end|>" in cut
    assert "Hello" not in cut
    assert trained == "Fine.<|im_end|>" == learns[-len(trained) :]
    assert counts == {REASONS["left"]: 1}


def test_on_the_left_a_pair_loses_tokens_that_it_shares():
    pair = {"chosen": chat(*SAID), "rejected": chat(*SAID[:-1]).then(OTHER)}
    longest = max(length(*SAID), length(*spoken(pair["rejected"])))
    found, counts = left("left", longest - 3, **pair)
    for part, conversation in pair.items():
        [tokens] = renderer().render(conversation)
        assert found[part][0][0] == decoded(tokens.inputs[3:])
    assert counts == {REASONS["left"]: 1}


def test_on_the_left_a_pair_that_differs_there_is_dropped():
    pair = {"chosen": chat(*SAID), "rejected": chat("u: Other", "a: Never.")}
    assert left("left", length(*SAID) - 40, **pair) == (None, {APART: 1})


def test_on_the_left_only_the_end_of_the_last_answer_is_nothing_to_learn_from():
    assert left("left", 4 + length("u: Hi", "a: Yo"), text=chat("u: Hi", "a: " + "word " * 60)) == (
        None,
        {NO_TURN: 1},
    )


@pytest.mark.parametrize(
    ("over", "first", "last"), [("oldest", 7, None), ("left", 7, None), ("right", 0, -7)]
)
def test_raw_text_is_cut_anywhere_at_the_front_or_the_end(over, first, last):
    said = Conversation((Message("text", "Once upon a time there was a boat on the sea " * 3),))
    [tokens] = renderer().render(said)
    kept, counts = prepare([example(text=said)], renderer(), ["text"], length=len(tokens) - 7, over=over)
    (cut,) = kept[0].parts["text"]
    assert cut.inputs.tolist() == tokens.inputs.tolist()[first:last]
    assert cut.weights.tolist() == [0.0] + [1.0] * (len(tokens) - 8)
    assert counts == {CUT_TEXT: 1}


# ------------------------------------------------------------------------------------------ cut_to_turns


def laid(weights, turns):
    import numpy as np

    ids = np.arange(len(weights), dtype=np.int32)
    return Tokens(ids, ids, np.array(weights, np.float32), np.array(turns, np.int32))


#         user u0 u1 | a a a stop nl | user | a a stop nl
WEIGHTS = [0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]
TURNS = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("limit", "kept"), [(14, 14), (20, 14), (13, 13), (12, 7), (8, 7), (7, 7), (6, None), (1, None)]
)
def test_a_cut_falls_behind_the_last_turn_that_fits(limit, kept):
    cut = cut_to_turns(laid(WEIGHTS, TURNS), limit)
    assert (cut and len(cut)) == kept
    if cut is not None:
        assert cut.inputs.tolist() == list(range(kept))


def test_two_answers_in_a_row_may_be_cut_apart():
    cut = cut_to_turns(laid([0, 1, 1, 1, 1], [0, 1, 1, 2, 2]), 4)
    assert cut is not None
    assert len(cut) == 3


def test_a_cut_at_random_ends_on_a_stop_token_and_fits():
    words, rng = renderer(), random.Random(0)
    for _ in range(30):
        said = [f"{'ua'[i % 2]}: {'word ' * rng.randint(1, 9)}" for i in range(2 * rng.randint(1, 4))]
        tokens = words.render(chat(*said))[0]
        limit = rng.randint(1, len(tokens) - 1)
        cut = cut_to_turns(tokens, limit)
        if cut is None:
            assert words.stop not in tokens.inputs[:limit][tokens.weights[:limit] > 0]
        else:
            assert len(cut) <= limit
            assert cut.inputs[-1] == words.stop
            assert cut.weights[-1] == 1


def pair(context, reply):
    """A mark, so many tokens from 100 on, a mark, so many from 200 on, which learn, and their end."""
    ids = np.array([1, *range(100, 100 + context), 2, *range(200, 200 + reply), 3], np.int32)
    weights = np.r_[np.zeros(context + 2), np.ones(reply + 1)].astype(np.float32)
    return Tokens(ids, ids, weights, np.zeros(len(ids), np.int32))


@pytest.mark.parametrize(
    ("context", "reply", "limit", "left"),
    [
        (6, 2, 8, [1, 103, 104, 105, 2, 200, 201, 3]),  # the context is longer, and loses its oldest
        (2, 6, 8, [1, 100, 101, 2, 200, 201, 202, 3]),  # the reply is longer, and loses its last
        (6, 6, 8, [1, 104, 105, 2, 200, 201, 202, 3]),  # both, down to the same; the odd one is the reply's
        (3, 4, 9, [1, 100, 101, 102, 2, 200, 201, 202, 3]),
        (4, 0, 5, [1, 102, 103, 2, 3]),  # an empty reply
        (3, 2, 8, [1, 100, 101, 102, 2, 200, 201, 3]),  # it fits
    ],
)
def test_the_longer_of_context_and_reply_loses_and_the_marks_stay(context, reply, limit, left):
    """Check 6 of card 36, its first part."""
    found = longest_first(pair(context, reply), limit)
    assert found.inputs.tolist() == left
    said = [id for id in left if id >= 200]
    ended = [3] if len(said) == reply else []  # the end of what was cut is read and not learnt
    assert found.targets[found.weights > 0].tolist() == said + ended


def test_replies_to_a_long_context_are_each_cut_for_themselves():
    """Other policies drop what cannot be cut alike."""
    start = chat("u: One? Two? Three? Four? Five?")
    replies = tuple(start.then(Message("assistant", text)) for text in ("Yes.", "No, " * 20))
    limit = 24
    found, counts = left("longest", limit, train="last", replies=replies)
    assert len(found["replies"]) == 2
    assert counts[REASONS["longest"]] == 1
    assert found["replies"][0][1] == "Yes.<|im_end|>"
    assert found["replies"][1][1].startswith("No, No")
    assert not found["replies"][1][1].endswith("<|im_end|>")


def test_a_limit_without_room_for_both_sides_is_refused():
    with pytest.raises(ValueError, match="4 tokens hold no context and reply"):
        longest_first(pair(3, 3), 4)
