"""Scenes of things in boxes, and what is asked about them.

`The book is in Box D, the car is in Box F. Box F contains the`: what comes next is ` car`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from turnsmith.errors import DataError
from turnsmith.types import Conversation, Example, Json, Message, is_list, is_object

SCENE = "scene"  # of the metadata: what the prompt was written from
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Scene:
    """things: in their order; boxes: the label of each thing's box; asked: the label that is asked for, which
    in a corrupted prompt is none of them; index: which box is asked for, or was before it was corrupted.

    Raises DataError where there are not as many labels as things, or a thing or a label is there twice: the
    label that is asked for would not tell one box.
    """

    things: tuple[str, ...]
    boxes: tuple[str, ...]
    index: int
    asked: str

    def __post_init__(self) -> None:
        for what, names in (("thing", self.things), ("label", self.boxes)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DataError(f"a scene has the {what} {twice[0]!r} twice: take each once")
        if not 0 <= self.index < len(self.boxes) or len(self.boxes) != len(self.things):
            raise DataError(
                f"a scene of {len(self.things)} things in {len(self.boxes)} boxes, of which number "
                f"{self.index} is asked for: give each thing one box, and ask for one of them, from 0"
            )

    @property
    def answer(self) -> str:
        """The thing in the box that is asked for."""
        return self.things[self.index]

    def prompt(self) -> str:
        """The text that ends before the answer.

        >>> Scene(("book", "car"), ("D", "F"), 1, "F").prompt()
        'The book is in Box D, the car is in Box F. Box F contains the'
        """
        return f"{self.told()} Box {self.asked} contains the"

    def told(self) -> str:
        """What stands before the question."""
        parts = [f"the {thing} is in Box {box}" for thing, box in zip(self.things, self.boxes, strict=True)]
        return f"T{', '.join(parts)[1:]}."

    def said(self, answer: str | None = None) -> Conversation:
        """Plain text: the prompt and, as all that learns, the answer, or what is given in its place."""
        thing = self.answer if answer is None else answer
        return Conversation(
            (Message("text", self.prompt(), weight=0.0), Message("text", f" {thing}", weight=1.0))
        )

    def every(self) -> tuple[Scene, ...]:
        """The scene with each of its boxes asked for."""
        return tuple(replace(self, index=at, asked=label) for at, label in enumerate(self.boxes))

    def example(self, id: str) -> Example:
        """An example of what is said, with what `scene` reads it back from."""
        kept: Json = {
            "things": list(self.things),
            "boxes": list(self.boxes),
            "index": self.index,
            "asked": self.asked,
        }
        return Example({"text": self.said()}, {}, {"id": id, "told": self.told(), SCENE: kept})

    def corrupted(self, rng: Random, labels: str = LETTERS) -> Scene:
        """The scene, asked for a label that none of its boxes has: nothing is the right answer."""
        return replace(self, asked=rng.choice([one for one in labels if one not in self.boxes]))


def scene(example: Example) -> Scene:
    """What an example of the stage `containers` was written from. Raises DataError where it was not."""
    found: Any = example.meta.get(SCENE)
    if not is_object(found) or not is_list(found.get("things")) or not is_list(found.get("boxes")):
        raise DataError(f"example {example.id!r} has no scene: make the data with the stage `containers`")
    try:
        boxes = tuple(map(str, found["boxes"]))
        return Scene(tuple(map(str, found["things"])), boxes, int(found["index"]), str(found["asked"]))
    except DataError as error:
        raise DataError(f"example {example.id!r}: {error}") from None
