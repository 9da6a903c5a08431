"""LLaVA's records there and back."""

from collections import Counter

import pytest

from turnsmith.data import formats
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing import picture
from turnsmith.types import IMAGE, Span

REGISTRY = Registry()
RED, BLUE = picture(), picture((0, 0, 255))


def read(row):
    (found,) = formats.examples([("1", row)], "llava", REGISTRY, "rows", Counter())
    return found.parts["text"].messages


def turns(*values, **more):
    names = ("human", "gpt") * len(values)
    first, *rest = [{"from": name, "value": value} for name, value in zip(names, values, strict=False)]
    return [{**first, **more}, *rest]


def test_images_stand_where_the_turns_say_so_in_their_order():
    row = {
        "image": [RED.url, BLUE.url],
        "conversations": turns("<image>\nWho?", "Ann.", "Or <image>?", "No."),
    }
    found = read(row)
    assert [message.content for message in found] == [f"{IMAGE}\nWho?", "Ann.", f"Or {IMAGE}?", "No."]
    assert [message.images for message in found] == [(RED,), (), (BLUE,), ()]


def test_spans_count_an_image_as_one_character():
    given = turns("<image> Who?", "Ann.", spans=[[8, 11, 1]])
    assert read({"image": RED.url, "conversations": given})[0].spans == (Span(2, 5, 1.0),)


@pytest.mark.parametrize(
    ("images", "first", "complaint"),
    [
        (RED.url, "Who?", "there are 1 images, and the turns say <image> 0 times"),
        ([RED.url], "<image><image>", "there are 1 images, and the turns say <image> 2 times"),
        ([], "Who?", "`image` must be a path"),
        ("nowhere.png", "<image>", r"image\[0\]: there is no image at"),
    ],
)
def test_records_that_say_something_else_are_refused(images, first, complaint):
    with pytest.raises(DataError, match=complaint):
        read({"image": images, "conversations": turns(first, "Ann.")})


def test_text_that_says_image_without_one_is_written_otherwise_and_said():
    (made,) = formats.examples(
        [("1", {"image": RED.url, "conversations": turns("<image> Who?", "Ann.")})],
        "llava",
        REGISTRY,
        "x",
        Counter(),
    )
    messages = made.parts["text"].messages
    from dataclasses import replace

    odd = made.replaced(
        text=replace(
            made.parts["text"], messages=(messages[0], replace(messages[1], content="I wrote <image>."))
        )
    )
    row, lost = REGISTRY.writer("llava")(odd)
    assert lost == ("the words <image> (now <picture>)",)
    assert read({key: row[key] for key in ("image", "conversations")})[1].content == "I wrote <picture>."


def test_formats_of_text_say_that_images_are_lost():
    (made,) = formats.examples(
        [("1", {"image": RED.url, "conversations": turns("<image>\nWho?", "Ann.")})],
        "llava",
        REGISTRY,
        "x",
        Counter(),
    )
    for name in ("sharegpt", "alpaca"):
        row, lost = REGISTRY.writer(name)(made)
        assert "images" in lost
        assert IMAGE not in str(row)
