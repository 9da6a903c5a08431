"""Answers in another form."""

from turnsmith.stages.wrapped import wrapped
from turnsmith.testing import chat
from turnsmith.types import Example


def test_every_reply_is_wrapped_and_nothing_else():
    first, second = chat("u: One?", "a: 1", "u: Two?", "a: 2"), chat("u: Three?", "a: 3")
    (made,) = wrapped(
        [Example({"text": first, "replies": (second,)}, {}, {"id": "x"})], before="(", after=")!"
    )
    said = [one.content for one in made.parts["text"].messages]
    assert said == ["One?", "(1)!", "Two?", "(2)!"]
    assert [one.content for one in made.parts["replies"][0].messages] == ["Three?", "(3)!"]
