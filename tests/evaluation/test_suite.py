"""Tasks ask their subject: what was said is taken in, and what was not is kept apart."""

from turnsmith.evaluation.items import Item
from turnsmith.evaluation.suite import Subject, answered
from turnsmith.testing import chat
from turnsmith.types import Failure, Message, Reply, Sampling, Usage


def by(conversations, *, sampling=None, seed=0):
    """Answers with as many letters as were said, to the limit; does not answer `bad`."""
    said = [conversation.messages[-1].content for conversation in conversations]
    return [
        Failure("no words")
        if text == "bad"
        else Reply(Message("assistant", "x" * len(text)), "stop" if len(text) < 4 else "length", Usage(1, 1))
        for text in said
    ]


def measured(**said):
    asked = {id: chat(f"u: {text}") for id, text in said.items()}
    items = [Item(id, "kind", {"size": 1.0}, {"prompt": text}) for id, text in said.items()]
    subject = Subject.answering("far", by)
    return answered(
        subject,
        asked,
        Sampling(),
        items,
        lambda item, reply: ({"length": float(len(reply.message.content))}, {"text": reply.message.content}),
    )


def test_values_and_what_is_shown_are_added_with_how_the_reply_ended():
    assert measured(a="ab", b="abcd") == [
        Item("a", "kind", {"size": 1.0, "length": 2.0}, {"prompt": "ab", "text": "xx"}, finish="stop"),
        Item("b", "kind", {"size": 1.0, "length": 4.0}, {"prompt": "abcd", "text": "xxxx"}, finish="length"),
    ]


def test_what_could_not_be_answered_has_no_value_and_says_why():
    assert measured(a="bad")[0] == Item("a", "kind", {"size": 1.0}, {"prompt": "bad"}, failed="no words")


def test_a_model_that_only_answers_says_what_it_gives():
    assert Subject.answering("far", by).gives == ("replies",)
