"""Drawn scenes whose truth is known: coloured shapes at places, and conversations about them by templates."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from turnsmith import album
from turnsmith.data.boxes import Box, listed, say
from turnsmith.errors import DataError, UsageError
from turnsmith.registry import stage, suggest
from turnsmith.stages.parts import conversation_of
from turnsmith.types import IMAGE, Conversation, Example, Image, Json, Message, is_list, is_object

if TYPE_CHECKING:
    from PIL import Image as Picture

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 205, 40)}
SHAPES = ("circle", "square", "triangle")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
CELLS = 4  # squares of the board in each direction: boxes begin and end at quarters
OBJECTS, TASK, BOXES, GOLD = "objects", "task", "boxes", "gold"  # keys of an example's metadata


@dataclass(frozen=True, slots=True)
class Thing:
    """What is in a scene. name: colour and shape. box: around it."""

    name: str
    box: Box


@stage("scenes", source="arXiv:2502.03333, with scenes in the place of radiographs")
def scenes(
    data: Sequence[Example], *, count: int, least: int = 1, most: int = 3, size: int = 128, rng: Random
) -> Iterator[Example]:
    """Add `count` pictures of `least` to `most` shapes, each of another colour or form, on a grey ground.

    A shape takes one or four of the 4 x 4 squares of the board, and no two of them share one. size: pixels of
    the square picture, a multiple of 4. The part `text` is a user's message with the picture alone; the names
    and boxes of what is drawn stand in the metadata, for `scene_chats`. Raises UsageError where the numbers
    cannot be.
    """
    if not 0 <= least <= most <= CELLS or size <= 0 or size % CELLS:
        raise UsageError(
            f"scenes: least {least}, most {most}, size {size}: 0 <= least <= most <= {CELLS}, and a size of "
            "4, 8, ... pixels"
        )
    yield from data
    for number in range(count):
        things = arranged(rng, rng.randint(least, most))
        file = io.BytesIO()
        drawn(things, size, rng.randint(225, 255)).save(file, "PNG")
        shown: list[Json] = [{"name": thing.name, "box": list(thing.box)} for thing in things]
        message = Message("user", IMAGE, images=(album.of_bytes(file.getvalue()),))
        yield Example({"text": Conversation((message,))}, {}, {"id": f"scene-{number}", OBJECTS: shown})


def arranged(rng: Random, count: int) -> list[Thing]:
    """So many things with names that differ, on squares that none shares with another; from the upper
    left."""
    taken: set[tuple[int, int]] = set()
    things: list[Thing] = []
    for name in rng.sample(NAMES, count):
        while True:
            wide = rng.choice((1, 2))
            left, top = rng.randrange(CELLS - wide + 1), rng.randrange(CELLS - wide + 1)
            own = {(left + x, top + y) for x in range(wide) for y in range(wide)}
            if not own & taken:
                break
        taken |= own
        things.append(Thing(name, (left / CELLS, top / CELLS, (left + wide) / CELLS, (top + wide) / CELLS)))
    return sorted(things, key=lambda thing: (thing.box[1], thing.box[0]))


def drawn(things: Sequence[Thing], size: int, ground: int) -> Picture.Image:
    """The picture: each shape fills its box. ground: its grey, from 0 to 255."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    picture = Picture.new("RGB", (size, size), (ground,) * 3)
    pen = ImageDraw.Draw(picture)
    for thing in things:
        colour, shape = thing.name.split()
        left, top, right, bottom = (round(number * size) for number in thing.box)
        right, bottom = right - 1, bottom - 1  # PIL's borders are inside
        if shape == "circle":
            pen.ellipse((left, top, right, bottom), fill=COLOURS[colour])
        elif shape == "square":
            pen.rectangle((left, top, right, bottom), fill=COLOURS[colour])
        else:
            pen.polygon(((left + right) // 2, top, right, bottom, left, bottom), fill=COLOURS[colour])
    return picture


# ------------------------------------------------------------------------------------- what is asked of them

ASK = {
    "report": (
        "Describe the picture.", "What does the picture show?", "Write a caption.", "What can be seen here?",
        "Say what is in the picture.", "Give a short description of the picture.",
    ),
    "list": (
        "Which shapes are there?", "List the shapes.", "Name all shapes in the picture.",
        "What shapes do you see?",
    ),
    "presence": (
        "Is there a {name}?", "Do you see a {name}?", "Does the picture show a {name}?",
        "Can a {name} be seen?",
    ),
    "grounding": (
        "Where is the {name}?", "Point at the {name}.", "Give the box of the {name}.", "Locate the {name}.",
        "At which place is the {name}?", "Show me the {name}.",
    ),
    "detection": (
        "Where is everything?", "Find all shapes.", "Give the boxes of all shapes.", "Detect every shape.",
    ),
}  # fmt: skip
NOTHING = ("There is nothing in the picture.", "No shape can be seen.", "The picture is empty.")
COUNTS = ("none", "one", "two", "three", "four")


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation about a scene without its picture, and what is known of its last answer: boxes in truth,
    or what it says."""

    rounds: tuple[tuple[str, str], ...]
    meta: Mapping[str, Json]


def _report(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    names = [_a(thing.name) for thing in things]
    answer = f"{rng.choice(('The picture shows', 'There is', 'I see'))} {listed(names)}." if names else ""
    return Told(((ask, answer or rng.choice(NOTHING)),), {})


def _list(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    names = [thing.name for thing in things]
    return Told(((ask, listed(names) or rng.choice(NOTHING)),), {GOLD: list[Json](names)})


def _presence(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    """Half of the questions are of what is there; half of the others share its colour or its shape."""
    there = [thing.name for thing in things]
    absent = [name for name in NAMES if name not in there]
    near = [name for name in absent if set(name.split()) & {word for one in there for word in one.split()}]
    right = bool(there) and rng.random() < 0.5
    name = rng.choice(there) if right else rng.choice(near if near and rng.random() < 0.5 else absent)
    return Told(((ask.format(name=name), "yes" if right else "no"),), {GOLD: ["yes" if right else "no"]})


def _grounding(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    thing = rng.choice(things)
    return Told(((ask.format(name=thing.name), say([thing.box])),), {BOXES: [list(thing.box)]})


def _detection(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    found = "; ".join(f"{_a(thing.name)} at {say([thing.box])}" for thing in things)
    return Told(((ask, found or rng.choice(NOTHING)),), {BOXES: [list(thing.box) for thing in things]})


def _dialogue(things: Sequence[Thing], ask: str, rng: Random) -> Told:
    """How many there are, what is where, and whether something else is there, with the history between."""
    thing = rng.choice(things)
    other = rng.choice([name for name in NAMES if name not in {one.name for one in things}])
    rounds = (
        ("How many shapes are there?", COUNTS[len(things)]),
        (rng.choice(ASK["grounding"]).format(name=thing.name), say([thing.box])),
        (
            "And what is there beside it?",
            listed([_a(one.name) for one in things if one is not thing]) or "nothing",
        ),
        (rng.choice(ASK["presence"]).format(name=other), "no"),
        ("Where is it, then?", f"There is no {other}."),
    )
    return Told(rounds[: rng.randint(3, 5)], {})


TASKS: dict[str, Callable[[Sequence[Thing], str, Random], Told]] = {
    "report": _report,
    "list": _list,
    "presence": _presence,
    "grounding": _grounding,
    "detection": _detection,
    "dialogue": _dialogue,
}
NEEDS_THINGS = ("grounding", "dialogue")


@stage("scene_chats", source="arXiv:2502.03333 sec. 3.1; uzh-dqbm-cmi/RadVLM, create_instructions.py")
def scene_chats(data: Sequence[Example], *, tasks: dict[str, int], rng: Random) -> Iterator[Example]:
    """Make of each scene conversations about it: a random question and answer of each task, by templates.

    tasks: of `report`, `list`, `presence`, `grounding`, `detection` and `dialogue`, how many conversations
    each scene gives, the balance by repetition of the source: their templates differ as long as there are
    enough. The picture stands before the first question. Scenes without a shape give none for `grounding`
    and `dialogue`. Raises UsageError for an unknown task or a negative number, DataError for what is no
    scene.
    """
    for name, times in tasks.items():
        if name not in TASKS or times < 0:
            near = suggest(name, list(TASKS))
            raise UsageError(f"scene_chats: tasks: {name}: {times}{near}: so many of {', '.join(TASKS)}")
    for example in data:
        image, things = _scene(example)
        for name, times in tasks.items():
            if name in NEEDS_THINGS and not things:
                continue
            asks = ASK.get(name, ("",))
            for number, ask in enumerate(
                rng.sample(asks, times) if times <= len(asks) else rng.choices(asks, k=times)
            ):
                told = TASKS[name](things, ask, rng)
                meta = {"id": f"{example.id}/{name}-{number}", TASK: name, **told.meta}
                yield Example({"text": _chat(image, told.rounds)}, {}, meta)


@stage("unseen")
def unseen(data: Sequence[Example]) -> Iterator[Example]:
    """Leave all images out: what is left of a conversation is what was said."""
    for example in data:
        parts = {
            name: tuple(map(_blind, part)) if isinstance(part, tuple) else _blind(part)
            for name, part in example.parts.items()
        }
        yield replace(example, parts=parts)


@stage("mistaken")
def mistaken(data: Sequence[Example], *, part: str = "text", rng: Random) -> Iterator[Example]:
    """Give each conversation the images of another one: who learns from them learns that they say nothing.

    The images go round among the examples in an order that is drawn, so that each is seen as often as before
    and, of two different scenes and more, most before a conversation that is not theirs. Every conversation
    must have exactly one image. Raises DataError where one has not.
    """
    images = [_only(conversation_of(example, part), example.id) for example in data]
    order = list(range(len(images)))
    rng.shuffle(order)
    given = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    for place, example in enumerate(data):
        messages = conversation_of(example, part).messages
        other = images[given[place]]
        moved = tuple(
            replace(message, images=(other,)) if message.images else message for message in messages
        )
        yield example.replaced(**{part: replace(conversation_of(example, part), messages=moved)})


def _blind(given: Conversation) -> Conversation:
    """The conversation without its images, and without the line that each stands on."""
    return replace(
        given,
        messages=tuple(
            replace(
                message,
                content=message.content.replace(f"{IMAGE}\n", "").replace(IMAGE, ""),
                images=(),
                spans=(),
            )
            if message.images
            else message
            for message in given.messages
        ),
    )


def _only(given: Conversation, name: str) -> Image:
    images = [image for message in given.messages for image in message.images]
    if len(images) != 1:
        raise DataError(f"mistaken: example {name!r} has {len(images)} images: it takes conversations of one")
    return images[0]


def _scene(example: Example) -> tuple[Image, list[Thing]]:
    found: Any = example.meta.get(OBJECTS)
    if not is_list(found) or not all(is_object(one) for one in found):
        raise DataError(
            f"example {example.id!r} does not say what it shows: scene_chats takes what `scenes` drew"
        )
    image = _only(conversation_of(example, "text"), example.id)
    return image, [Thing(str(one["name"]), tuple(one["box"])) for one in found]


def _chat(image: Image, rounds: Sequence[tuple[str, str]]) -> Conversation:
    messages: list[Message] = []
    for ask, answer in rounds:
        messages += [Message("user", ask), Message("assistant", answer)]
    first = replace(messages[0], content=f"{IMAGE}\n{messages[0].content}", images=(image,))
    return Conversation((first, *messages[1:]))


def _a(name: str) -> str:
    """With its article: no name here begins with a vowel's sound but those that do.

    >>> _a("red circle"), _a("orange square")
    ('a red circle', 'an orange square')
    """
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
