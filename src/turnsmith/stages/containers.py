"""Things in boxes: texts that say where each thing is, and end on the question what one of the boxes
holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Literal

from turnsmith.data.containers import Scene
from turnsmith.errors import UsageError
from turnsmith.registry import stage
from turnsmith.types import Example

THINGS = (
    "book", "car", "hat", "cup", "key", "pen", "map", "ball", "bell", "coat", "coin", "cake", "fish", "egg",
    "milk", "rose", "ring", "shirt", "shoe", "stone", "train", "apple", "bread", "clock", "flag", "game",
    "glass", "lamp", "leaf", "letter",
)  # fmt: skip


@stage("containers", source="arXiv:2402.14811 sec. 3; Nix07/finetuning, data/data_utils.py")
def containers(
    data: Sequence[Example],
    *,
    count: int,
    least: int = 7,
    most: int = 7,
    things: tuple[str, ...] = (),
    labels: str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    asked: Literal["one", "all"] = "one",
    rng: Random,
) -> Iterator[Example]:
    """Add `count` texts that say in which box each of `least` to `most` things is, and what one box contains.

    All that learns is the last word. A thing and a label are in a scene once at most, and which box is asked
    for is drawn, so that nothing but the scene tells the answer. things: what they are drawn from, thirty
    common words where none are given; labels: letters. Tasks that look into a model need things that are one
    token each, which they check. asked: `all` asks for every box of a scene, in conversations of one example
    that share what stands before the question: more to learn from for little more work. Tasks ask for the one
    that was drawn. Raises UsageError where there are not as many things or labels as boxes.
    """
    yield from data
    things = things or THINGS
    room = min(len(set(things)), len(set(labels)) - 1)  # one label is left for what is corrupted
    if not 2 <= least <= most <= room:
        raise UsageError(
            f"containers: least is {least} and most is {most}: 2 <= least <= most <= {room} is needed, with "
            f"{len(set(things))} things and {len(set(labels))} labels, of which one stays free"
        )
    for number in range(count):
        size = rng.randint(least, most)
        names, letters = rng.sample(sorted(set(things)), size), rng.sample(sorted(set(labels)), size)
        index = rng.randrange(size)
        scene = Scene(tuple(names), tuple(letters), index, letters[index])
        made = scene.example(f"scene-{number}")
        yield made if asked == "one" else made.replaced(text=tuple(one.said() for one in scene.every()))
