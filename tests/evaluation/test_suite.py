"""Tasks ask their subject: what was said is taken in, and what was not is kept apart."""

from turnsmith.data.batch import pack
from turnsmith.data.render import Renderer
from turnsmith.evaluation.items import Item
from turnsmith.evaluation.suite import Subject, answered
from turnsmith.testing import chat, tokenizer
from turnsmith.types import Example, Failure, Message, Reply, Sampling, Usage


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


def test_what_does_not_fit_is_cut_or_left_out_and_counted():
    subject = Subject("tiny", None, Renderer(tokenizer()), by, pack)
    said = {"a": ["a: y"], "b": ["a: y", "u: x", f"a: {'y ' * 40}"], "c": ["a: y y"]}
    examples = [Example({"text": chat("u: x", *turns)}, {}, {"id": id}) for id, turns in said.items()]
    kept = subject.rendered(examples, ("text",), length=30, over="drop")
    assert [one.id for one in kept] == ["a", "c"]
    assert subject.lost == {"dropped: too long": 1}
    assert len(subject.rendered(examples, ("text",), length=30, over="right")) == 3
    assert subject.lost == {"dropped: too long": 1, "cut after the last whole turn that fits": 1}
