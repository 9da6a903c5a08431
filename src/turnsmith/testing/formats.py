"""What every format keeps. A check takes the format's name, rows that it reads, and the registry it is in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from turnsmith.data import formats
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.testing.builders import variety
from turnsmith.types import Example

Row = Mapping[str, Any]
NONSENSE: tuple[Any, ...] = (None, 3, "", "word", [], [3], [[3]], {}, {"x": 1}, [{"role": 3}], [{"x": "y"}])


def its_rows_are_told_by_their_columns(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """Nobody has to say that data are in this format; one without columns, another reading of the rows of a
    format that has some, is never guessed."""
    guessed = formats.guess([dict(row) for row in rows], registry.entries("format")).name
    assert (guessed == name) == bool(registry.entry("format", name).traits.get("columns"))


def a_row_is_left_as_it_was(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """Keys that the format does not use are kept with the example."""
    before = deepcopy(list(rows))
    read(name, rows, registry)
    assert list(rows) == before


def what_is_read_is_written_and_read_again(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """As Turnsmith's own rows, nothing being lost."""
    found = read(name, rows, registry)
    assert found
    written = [json.loads(json.dumps(formats.to_row(example), ensure_ascii=False)) for example in found]
    assert read("turnsmith", written, registry) == found


def what_is_written_is_read_as_it_was(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """Where the format has a writer: an example of its own rows comes back whole, and nothing is lost."""
    if not registry.entry("format", name).traits.get("writer"):
        return
    for example in read(name, rows, registry):
        row, lost = registry.writer(name)(example)
        assert not lost, f"a row of its own loses {lost}"
        assert read(name, [json.loads(json.dumps(row, ensure_ascii=False))], registry, [example.id]) == [
            example
        ]


def what_a_writer_has_no_place_for_is_said(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """Any example is written whole, written with what is lost, or refused by DataError."""
    if not registry.entry("format", name).traits.get("writer"):
        return
    for example in (replace(one, values={}) for one in variety()):
        try:
            row, lost = registry.writer(name)(example)
        except DataError:
            continue
        (back,) = read(name, [json.loads(json.dumps(row, ensure_ascii=False))], registry, [example.id])
        assert back == example or lost, f"{example.id} is not what it was, and nothing is said to be lost"


def a_broken_row_is_an_error_that_names_it(name: str, rows: Sequence[Row], registry: Registry) -> None:
    """Whatever stands in a column: the row is read, skipped with a reason, or refused by its id."""
    for row in rows:
        for column in row:
            for nonsense in NONSENSE:
                refusal = refused(name, {**row, column: nonsense}, registry)
                assert refusal is None or "'0'" in refusal, f"{column} = {nonsense!r}: {refusal}"


FormatCheck = Callable[[str, Sequence[Row], Registry], None]
FORMAT: tuple[FormatCheck, ...] = (
    its_rows_are_told_by_their_columns,
    a_row_is_left_as_it_was,
    what_is_read_is_written_and_read_again,
    what_is_written_is_read_as_it_was,
    what_a_writer_has_no_place_for_is_said,
    a_broken_row_is_an_error_that_names_it,
)


def read(
    name: str, rows: Sequence[Row], registry: Registry, ids: Sequence[str] | None = None
) -> list[Example]:
    """The examples of the rows, whose ids are their numbers where none are given."""
    named = zip(ids or map(str, range(len(rows))), rows, strict=True)
    return list(formats.examples(named, name, registry, "rows", Counter()))


def refused(name: str, row: Row, registry: Registry) -> str | None:
    """Why the row is refused; None where it is not."""
    try:
        read(name, [row], registry)
    except DataError as error:
        return str(error)
    return None
