"""What every stage keeps. A check takes the stage, its options filled in, and examples to try it on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from turnsmith.data import formats
from turnsmith.testing.components import Stage
from turnsmith.types import Example


def the_input_is_left_as_it_was(stage: Stage, data: Sequence[Example]) -> None:
    """The list and the examples in it: other steps read them too."""
    given = list(data)
    before = rows(given)
    for _ in stage(given):
        pass
    assert rows(given) == before


def the_same_input_gives_the_same_rows(stage: Stage, data: Sequence[Example]) -> None:
    """Byte by byte: what is on the shelf stands for what would be made again."""
    assert rows(stage(list(data))) == rows(stage(list(data)))


def what_comes_out_is_read_back_as_it_is(stage: Stage, data: Sequence[Example]) -> None:
    """Nothing is lost between a step that writes examples and one that reads them."""
    for example in stage(list(data)):
        row = json.loads(json.dumps(formats.to_row(example), ensure_ascii=False))
        parsed = formats.turnsmith(row)
        assert Example(parsed.parts, parsed.values, parsed.meta) == example, example.id


def ids_stay_different(stage: Stage, data: Sequence[Example]) -> None:
    """What is measured is paired by id, and two rows of one id are refused when they are read."""
    ids = [example.id for example in stage(list(data))]
    assert len(set(ids)) == len(ids)


StageCheck = Callable[[Stage, Sequence[Example]], None]
STAGE: tuple[StageCheck, ...] = (
    the_input_is_left_as_it_was,
    the_same_input_gives_the_same_rows,
    what_comes_out_is_read_back_as_it_is,
    ids_stay_different,
)


def rows(data: Iterable[Example]) -> list[str]:
    """The examples as they would be written."""
    return [json.dumps(formats.to_row(example), ensure_ascii=False) for example in data]
