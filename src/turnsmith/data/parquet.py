"""Rows to Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import IO, Any

import pyarrow as pa
from pyarrow.parquet import ParquetWriter

from turnsmith.types import is_list, is_object

Row = Mapping[str, Any]
TEXT, MIXED = "text", "mixed"  # what a column holds, beside bool, int, float and `turns`
BATCH = 1000  # rows that are in memory at a time
SCALAR = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), TEXT: pa.string()}


def write(rows: Callable[[], Iterator[Row]], opened: IO[bytes]) -> None:
    """Write rows as Parquet, going through them twice: first for what the columns hold.

    A column has a type of its own if all its values have it: flags, whole numbers, numbers, text, and lists
    of objects that all have the same keys with such values, which is what plain messages are. All else
    stands as JSON text.
    """
    kinds: dict[str, Any] = {}
    for row in rows():
        for name, value in row.items():
            kinds[name] = _both(kinds.get(name), _kind(value))
    schema = pa.schema([(name, _type(kind)) for name, kind in kinds.items()])
    with ParquetWriter(opened, schema) as out:
        for batch in _batches(rows()):
            cells = [{name: _cell(row.get(name), kind) for name, kind in kinds.items()} for row in batch]
            out.write_table(pa.Table.from_pylist(cells, schema))


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _kind(value: Any) -> Any:
    """What a value is: a word, or for a list of objects the words of their keys; None for null."""
    if value is None or value == []:
        return None if value is None else {}
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else MIXED
    if isinstance(value, float | str):
        return "float" if isinstance(value, float) else TEXT
    if not is_list(value) or not all(is_object(one) and one for one in value):
        return MIXED
    found: Any = None
    for one in value:
        kinds = {key: _kind(inner) for key, inner in one.items()}
        found = _both(found, kinds if set(kinds.values()) <= set(SCALAR) else MIXED)
    return found


def _both(one: Any, other: Any) -> Any:
    """What two values of a column have in common."""
    if one is None or other is None or one == other:
        return other if one is None else one
    if {} in (one, other) and is_object(one) and is_object(other):
        return one or other
    if is_object(one) and is_object(other) and one.keys() == other.keys():
        merged = {key: _both(kind, other[key]) for key, kind in one.items()}
        return merged if MIXED not in merged.values() else MIXED
    return "float" if [one, other] in (["int", "float"], ["float", "int"]) else MIXED


def _type(kind: Any) -> pa.DataType:
    if is_object(kind) and kind:
        return pa.list_(pa.struct([(key, SCALAR[one]) for key, one in kind.items()]))
    return SCALAR.get(kind, pa.string()) if isinstance(kind, str) else pa.string()


def _cell(value: Any, kind: Any) -> Any:
    """The value, or its JSON text where the column has no type that holds it."""
    typed = kind in SCALAR if isinstance(kind, str) else bool(kind)
    if typed or value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
