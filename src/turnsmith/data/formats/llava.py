"""LLaVA's records: an image, and turns as ShareGPT's in which `<image>` says where it is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from turnsmith import album
from turnsmith.data.formats import Parsed, Row
from turnsmith.data.formats.sharegpt import LIMITS, USED, heard, said
from turnsmith.data.write import IMAGES, Writer, of_messages, single
from turnsmith.errors import DataError
from turnsmith.registry import format
from turnsmith.types import IMAGE, Conversation, Example, Image, Json, Message, is_list

MARK = "<image>"


def _marked(message: Message) -> Message:
    """A text that says `<image>` without meaning one cannot be told from one that does."""
    return (
        replace(message, content=message.content.replace(MARK, "<picture>"))
        if MARK in message.content
        else message
    )


WITHIN = (
    of_messages("the words <image> (now <picture>)", _marked),
    *(one for one in LIMITS if one is not IMAGES),
)


def _row(example: Example) -> dict[str, Json]:
    given = single(example)
    images = [image.url for message in given.messages for image in message.images]
    if not images:
        raise DataError("a record has an image, and this example has none: write it as sharegpt")
    messages = tuple(replace(m, content=m.content.replace(IMAGE, MARK), images=()) for m in given.messages)
    return {
        "image": images[0] if len(images) == 1 else list[Json](images),
        **said(replace(given, messages=messages)),
    }


@format(
    "llava",
    columns=(("image", "conversations"),),
    writer=Writer(_row, ("image", *USED), WITHIN),
)
def llava(row: Row) -> Parsed:
    """LLaVA records: `{"image": PATH, "conversations": [{"from": "human", "value": "<image>..."}, ...]}`.

    image: a path, a `data:` URI, or a list of such, one for each `<image>` in the turns, in their order.
    """
    given: Any = row["image"]
    urls: list[Any] = given if is_list(given) else [given]
    if not urls or not all(isinstance(url, str) and url for url in urls):
        raise DataError(f"`image` must be a path, a data: URI, or a list of such, not {given!r:.60}")
    images = [album.found(url, f"image[{number}]") for number, url in enumerate(urls)]
    return Parsed({"text": placed(heard(row), images)}, ("image", *USED))


def placed(given: Conversation, images: list[Image]) -> Conversation:
    """The conversation with the images where it says `<image>`; DataError unless there are as many."""
    marks = sum(message.content.count(MARK) for message in given.messages)
    if marks != len(images):
        raise DataError(f"there are {len(images)} images, and the turns say {MARK} {marks} times")
    left = iter(images)
    return replace(
        given,
        messages=tuple(
            replace(
                message,
                content=message.content.replace(MARK, IMAGE),
                images=tuple(next(left) for _ in range(message.content.count(MARK))),
                spans=tuple(
                    replace(s, start=_at(message, s.start), end=_at(message, s.end)) for s in message.spans
                ),
            )
            if MARK in message.content
            else message
            for message in given.messages
        ),
    )


def _at(message: Message, place: int) -> int:
    """Where a character is once each mark is one."""
    return place - (len(MARK) - 1) * message.content.count(MARK, 0, place)
