"""Pairs of the data's answer and one that a model writes to the same prompt."""

from collections import Counter

import pytest

from turnsmith.data.render import Renderer
from turnsmith.errors import DataError
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.stages.respond import respond
from turnsmith.testing import chat, model, tokenizer
from turnsmith.types import Example, Failure, Message, Reply, Usage


def example(name, *said):
    return Example({"text": chat(*said)}, {"rating": 3.0}, {"id": name})


SHORT = example("short", "u: Hi", "a: Hello")
LONG = example("long", "s: Be kind.", "u: Hi", "a: Hello", "u: How are you?", "a: Fine", "u: Good")


def says(*texts):
    """A chat that answers so, one after the other; None where it cannot."""

    def answer(conversations, *, sampling=None, seed=0):
        assert len(conversations) == len(texts)
        return [
            Failure("the prompt has 12 tokens")
            if text is None
            else Reply(Message("assistant", text), "stop", Usage(1, 1))
            for text in texts
        ]

    return answer


def paired(data, by, **options):
    counts = Counter()
    return list(respond(data, by=by, counts=counts, **options)), counts


def texts(example, part):
    return [message.content for message in example.parts[part].messages]


def test_the_last_answer_stands_against_the_one_that_was_written():
    (short, long), counts = paired([SHORT, LONG], says("Go away", "Bad"))
    assert texts(short, "chosen") == ["Hi", "Hello"]
    assert texts(short, "rejected") == ["Hi", "Go away"]
    assert texts(long, "chosen") == [
        "Be kind.",
        "Hi",
        "Hello",
        "How are you?",
        "Fine",
    ]  # what follows is left out
    assert texts(long, "rejected") == ["Be kind.", "Hi", "Hello", "How are you?", "Bad"]
    assert (short.id, short.values) == ("short", {"rating": 3.0})
    assert not counts


def test_another_turn_can_be_asked_for_and_whoever_lacks_it_is_counted():
    (first,), counts = paired([SHORT, LONG], says("Bad"), turn=1)
    assert texts(first, "rejected")[-2:] == ["How are you?", "Bad"]
    assert counts == {"have no answer number 1": 1}
    (_, other), _ = paired([SHORT, LONG], says("A", "B"), turn=0)
    assert texts(other, "rejected") == ["Be kind.", "Hi", "B"]


def test_an_opening_message_of_the_assistant_answers_nothing():
    (only,), _ = paired([example("greets", "a: Welcome", "u: Hi", "a: Hello")], says("Bye"), turn=0)
    assert texts(only, "rejected") == ["Welcome", "Hi", "Bye"]


def test_who_cannot_be_answered_is_left_out_and_counted_with_the_reason():
    (kept,), counts = paired([SHORT, LONG], says(None, "Bad"))
    assert kept.id == "long"
    assert counts == {"could not be answered: the prompt has 12 tokens": 1}


def test_an_answer_that_says_nothing_is_kept_and_equal_ones_are_counted():
    (empty, same), counts = paired([SHORT, LONG], says("", " Fine "))
    assert texts(empty, "rejected")[-1] == ""
    assert same.id == "long"
    assert counts == {"pairs of equal answers, which teach nothing": 1}


def test_a_conversation_that_is_not_there_is_an_error():
    with pytest.raises(DataError, match="'short' has no conversation 'chats'; it has text"):
        paired([SHORT], says("x"), to="chats")


def test_a_model_answers_with_the_tokens_it_drew():
    renderer = Renderer(tokenizer())
    by = LocalChat(LocalEngine(model(), stop=[renderer.stop]), renderer)
    (made,), _ = paired([SHORT], by, max_new=5)
    reply = made.parts["rejected"].messages[-1]
    assert 1 <= len(reply.ids) <= 5
    assert len(reply.logprobs) == len(reply.ids)
