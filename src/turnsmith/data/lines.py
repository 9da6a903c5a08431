"""Rows of text files: jsonl, json, csv and tsv. What is wrong with one row does not lose the others."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from turnsmith.data.quarantine import Place, Quarantine, refuse
from turnsmith.errors import DataError
from turnsmith.types import is_list, is_object

GZIP = ".gz"
Named = Iterator[tuple[Place, str, Any]]  # where a row is, its name, and what it holds
CELL = (
    1 << 28
)  # characters of a cell; Python's csv would stop at 131,072, and an open quote must stop somewhere
OTHER = {  # the longer marks first: that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
CONVERT = (
    "a file that is wholly in another encoding is converted by: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
)
UNPACKED, RATIO = 1 << 30, 200  # bytes that a gzip file may become, or times its size: rows become some 10
BLOCK = 1 << 17  # bytes that are unpacked at a time
HALF = "holds half of a surrogate pair: the text was cut inside a character"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
WHOLE = "a .json file is one value, of which no row can be set aside; with a row a line, .jsonl, it could"


class Unfit(Exception):
    """Raised for a row that cannot be read; its text is the reason."""


def stem(path: Path) -> str:
    """The file's name without its endings, which names the rows that have no name of their own."""
    return Path(path.name.removesuffix(GZIP)).stem


class _Unpacked(io.RawIOBase):
    """The bytes in a gzip file. Raises DataError where they become far more than the file."""

    def __init__(self, path: Path) -> None:
        self._path, self._inner = path, gzip.open(path, "rb")  # noqa: SIM115 (it is closed by `close`)
        self._most = max(UNPACKED, RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        got = self._inner.readinto(buffer)
        if self.tell() > self._most:
            raise DataError(
                f"{self._path} becomes more than {self._most:,} bytes, {RATIO} times its own: if that is "
                "meant, unpack it and give what comes of it"
            )
        return got

    def tell(self) -> int:
        return self._inner.tell()

    def close(self) -> None:
        self._inner.close()
        super().close()


@contextmanager
def opened(path: Path) -> Generator[io.BufferedReader[Any]]:
    """The bytes of a file after a byte order mark, unpacked; DataError where it is torn, UTF-16 or UTF-32, or
    unpacks to far more than it is."""
    try:
        packed = path.name.endswith(GZIP)
        with io.BufferedReader(_Unpacked(path), BLOCK) if packed else path.open("rb") as raw:
            first = raw.peek(4)
            for mark, encoding in OTHER.items():
                if first.startswith(mark):
                    raise DataError(
                        f"{path} is {encoding} text, by its first bytes, and UTF-8 is read: convert it by "
                        f"iconv -f {encoding} -t UTF-8 OLD > NEW"
                    )
            if first.startswith(codecs.BOM_UTF8):
                raw.read(len(codecs.BOM_UTF8))
            yield raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error}): fetch or pack it again") from None


# ------------------------------------------------------------------------------------------------ json


def jsonl(path: Path, bad: Quarantine | None) -> Named:
    """One JSON value a line. A line that is none, or no UTF-8, is one bad row."""
    with opened(path) as lines:
        yield from _jsonl(path, lines, lines.tell(), 1, bad)


def jsonl_between(path: Path, start: int, stop: int, first: int, bad: Quarantine | None) -> Named:
    """The same for the lines in the bytes from `start` to `stop`, where line number `first` begins."""
    with path.open("rb") as lines:
        lines.seek(start)
        inside = takewhile(lambda _: lines.tell() <= stop, iter(lines.readline, b""))
        yield from _jsonl(path, inside, start, first, bad)


def runs_of_lines(path: Path, size: int) -> list[tuple[int, int, int]]:
    """A file of lines in runs of `size` bytes and what is left of the last line: (start, stop, number of the
    first line)."""
    found: list[tuple[int, int, int]] = []
    with opened(path) as lines:
        start, number = lines.tell(), 1
        while block := lines.read(size):
            block += lines.readline()
            found.append((start, start + len(block), number))
            start, number = start + len(block), number + block.count(b"\n")
    return found


def _jsonl(path: Path, lines: Iterable[bytes], start: int, first: int, bad: Quarantine | None) -> Named:
    name = stem(path)
    for number, line in enumerate(lines, start=first):
        place = Place(str(path), number)
        try:
            if line.strip():
                yield place, f"{name}-{number}", _value(line, start)
        except Unfit as reason:
            more = "; if the file is one JSON value, call it .json" if line.strip() in (b"[", b"{") else ""
            refuse(f"{reason}{more}", place, line.decode("utf-8", "backslashreplace").rstrip("\n"), bad)
        start += len(line)


def _value(line: bytes, start: int) -> Any:
    """What the line says. start: its byte offset in the file."""
    if b"\0" in line:
        raise Unfit(
            f"holds {line.count(0)} NUL bytes: the file was torn while it was written, or it is no UTF-8 text"
        )
    try:
        found = json.loads(line.rstrip(b"\r\n").decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Unfit(_no_text(error, f"of the line, {start + error.start} of the file")) from None
    except json.JSONDecodeError as error:
        raise Unfit(f"no JSON ({error.msg.removesuffix(' at')} at character {error.pos + 1})") from None
    except (ValueError, RecursionError) as error:
        raise Unfit(f"no JSON ({error})") from None
    if _is_cut(line, found):
        raise Unfit(HALF)
    return found


def _no_text(error: UnicodeDecodeError, of: str) -> str:
    byte = error.object[error.start]
    return f"no UTF-8 text: '\\x{byte:02x}' at byte offset {error.start} {of} ({CONVERT})"


def _is_cut(source: bytes, value: Any) -> bool:
    """Whether half of a surrogate pair is in it, which can be neither written nor tokenised.

    source: what the value was parsed from; whether it can be so at all is quickly seen there.
    """
    if not SURROGATE.search(source):
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def whole(path: Path, bad: Quarantine | None) -> Named:
    """A list of rows, an object of named rows, or an object of named lists of rows, in one JSON value."""
    with opened(path) as raw:
        content = raw.read()
    found = _whole(path, content, "" if bad is None else f". {WHOLE}")
    if is_object(found) and all(is_object(row) for row in found.values()):
        pairs = found.items()
    elif is_list(found):
        pairs = _numbered(path, found)
    elif is_object(found) and all(is_list(rows) for rows in found.values()):
        pairs = _numbered(path, [row for rows in found.values() for row in rows])
    else:
        raise DataError(
            f"{path}: expected a list of rows, or an object of named rows or of named lists of rows"
        )
    suspect = SURROGATE.search(content)
    for number, (name, row) in enumerate(pairs, start=1):
        place = Place(str(path), number, "row")
        if suspect and _is_cut(suspect[0], row):
            refuse(HALF, place, row, bad, name)
        else:
            yield place, name, row


def _numbered(path: Path, rows: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    return ((f"{stem(path)}-{number}", row) for number, row in enumerate(rows, start=1))


def _whole(path: Path, content: bytes, more: str) -> Any:
    """The value of the file. more: what an error says at its end."""
    try:
        text = content.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique if text.lstrip()[:1] == "{" else None)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: {_no_text(error, 'of the file')}{more}") from None
    except Unfit as error:
        raise DataError(f"{path}: {error}{more}") from None
    except json.JSONDecodeError as error:
        lines = "; if it holds one JSON object a line, call it .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path}: no JSON ({error}){lines}{more}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON ({error}){more}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, in which no name may stand twice: JSON would silently keep the last of two rows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise Unfit(f"one object has the name {twice!r} twice; names must differ")
    return found


# ------------------------------------------------------------------------------------------------- csv


def table(path: Path, bad: Quarantine | None) -> Named:
    """Comma-separated values, or tab-separated ones where the file ends on .tsv. All cells are text.

    A row's place is its first line. For its cells Python's limit of csv is raised to 256 Mi characters.
    """
    csv.field_size_limit(max(csv.field_size_limit(), CELL))
    taken, name = list[str](), stem(path)
    with opened(path) as raw:
        lines = _taking(io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline=""), taken)
        tabs = ".tsv" in path.suffixes[-2:]
        reader = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)
        columns = _header(path, reader, taken)
        while True:
            place = Place(str(path), reader.line_num + 1)
            taken.clear()
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                if cells:
                    yield place, f"{name}-{reader.line_num}", _row(columns, cells, "".join(taken))
            except Unfit as reason:
                refuse(str(reason), place, _readable(taken), bad)
            except csv.Error as error:
                if "unexpected end" in str(error):
                    _open_quote(place)
                refuse(_too_long(error), place, _readable(taken), bad)


def _taking(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    """The lines, each put into `taken` as well."""
    for line in lines:
        taken.append(line)
        yield line


def _header(path: Path, reader: Iterator[list[str]], taken: Sequence[str]) -> list[str]:
    try:
        columns = next((cells for cells in reader if cells), list[str]())
        _row(columns, columns, "".join(taken))
    except (Unfit, csv.Error) as reason:
        raise DataError(f"{path}: the header with the names of the columns {reason}") from None
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{path}: two columns are called {name!r}")
    return columns


def _row(columns: Sequence[str], cells: Sequence[str], text: str) -> Mapping[str, str]:
    """The cells by column. text: the lines that they stand in, bytes that are no UTF-8 escaped."""
    if not text.isascii():
        try:
            text.encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unfit(_no_text(error, "of the row")) from None
    if "\0" in text:
        raise Unfit(
            f"holds {text.count(chr(0))} NUL bytes: the file was torn while it was written, or is no text"
        )
    if len(cells) != len(columns):
        raise Unfit(
            f"more or fewer cells than the header has columns ({len(cells)} instead of {len(columns)})"
        )
    return dict(zip(columns, cells, strict=True))


def _readable(taken: Sequence[str]) -> str:
    said = "".join(taken).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return said.rstrip("\r\n")


def _too_long(error: csv.Error) -> str:
    return f"{error}: is a quote not closed?" if "field limit" in str(error) else str(error)


def _open_quote(place: Place) -> NoReturn:
    raise DataError(
        f"{place}: unexpected end of data: a quote opens in this row and is not closed before the end of the "
        "file, so that nothing after it can be read"
    )
