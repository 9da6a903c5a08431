"""Rows of columnar files: Parquet, and both forms of Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import ipc
from pyarrow.parquet import ParquetFile

from turnsmith.data.quarantine import Place, Quarantine, refuse
from turnsmith.errors import DataError
from turnsmith.types import is_list, is_object


def rows(path: Path, bad: Quarantine | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, row) of the rows as JSON has them, a thousand or one stored batch in memory at a time.

    Times and decimals become text. A row with bytes, or with text that is no UTF-8, goes to `bad`; without it
    DataError names row and column. Raises DataError where the file is torn.
    """
    number = 0
    try:
        for batch in _parquet(path) if path.suffix.lower() == ".parquet" else _arrow(path):
            for row in _decoded(batch):
                number += 1
                place = Place(str(path), number, "row")
                try:
                    if isinstance(row, UnicodeDecodeError):
                        raise DataError(f"text that is no UTF-8 ({row})")
                    plain = {name: _plain(value, str(name)) for name, value in row.items()}
                except DataError as reason:
                    refuse(str(reason), place, str(row), bad)
                else:
                    yield number, plain
    except (pa.ArrowException, OSError, ValueError) as error:  # names of columns may be no UTF-8
        raise DataError(f"{path} is no whole {path.suffix[1:].lower()} file ({error})") from None


def _decoded(batch: pa.RecordBatch) -> list[dict[str, Any] | UnicodeDecodeError]:
    """The rows; of one whose text is no UTF-8, the error."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [error]
        return [row for number in range(batch.num_rows) for row in _decoded(batch.slice(number, 1))]


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with ParquetFile(path) as opened:
        yield from opened.iter_batches(batch_size=1000)


def _arrow(path: Path) -> Iterable[pa.RecordBatch]:
    """With an index at the end, or, as `datasets` writes them, a stream."""
    with pa.memory_map(str(path)) as source:
        try:
            opened = ipc.open_file(source)
        except pa.ArrowInvalid:
            yield from ipc.open_stream(source)
        else:
            yield from (opened.get_batch(number) for number in range(opened.num_record_batches))


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if is_object(value):
        return {str(key): _plain(one, f"{where}, {key}") for key, one in value.items()}
    if is_list(value):
        return [_plain(one, where) for one in value]
    if isinstance(value, bytes):
        raise DataError(f"{where}: bytes cannot be read as text; leave the column out")
    return str(value)
