"""Questions with options, in the formats that benchmarks are published in."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnsmith.data import lines, read
from turnsmith.errors import DataError
from turnsmith.evaluation.rows import Row, first, rows, text
from turnsmith.types import is_list, is_object

LETTERS = "ABCD"
MMLU = ("question", *LETTERS, "answer")  # the columns of its files, which have no header


@dataclass(frozen=True, slots=True)
class Question:
    """prompt: what a chat is asked. text: what stands before an option in plain text. answer: the index of
    the right option."""

    prompt: str
    text: str
    options: tuple[str, ...]
    answer: int


def questions(file: str, count: int | None = None) -> list[Question]:
    """The first `count` questions of a file in one of FORMATS; which one, its first row tells.

    Raises DataError naming file and line where a row is none, where its right answer is of the wrong type or
    not among its options, and where the format is not known.
    """
    found = first(_mmlu(Path(file)), count) if _is_mmlu(Path(file)) else rows(file, count)
    place, row = found[0]
    reader = next((reader for keys, reader in FORMATS if keys <= row.keys()), None)
    if reader is None:
        known = "; ".join(", ".join(sorted(keys)) for keys, _ in FORMATS)
        raise DataError(
            f"{place}: no questions are known with the keys {', '.join(map(str, row))}; known are {known}"
        )
    return [reader(row, place) for place, row in found]


def _question(prompt: str, options: Sequence[str], answer: int) -> Question:
    return Question(prompt, f"Question: {prompt}\nAnswer:", tuple(options), answer)


# ------------------------------------------------------------------------------------------- formats


def _plain(row: Row, place: str) -> Question:
    """Turnsmith's own: `answer` is the index of the right one of `options`, from 0."""
    options = _options(row["options"], "options", place)
    return _question(text(row, "question", place), options, _index(row["answer"], "answer", options, place))


def _hub_mmlu(row: Row, place: str) -> Question:
    """MMLU as on the hub: `choices`, and the index of the right one."""
    options = _options(row["choices"], "choices", place)
    return _question(text(row, "question", place), options, _index(row["answer"], "answer", options, place))


def _lettered(row: Row, place: str) -> Question:
    """MMLU's own table: a column for each option, named by its letter."""
    options = [text(row, letter, place) for letter in LETTERS]
    return _question(text(row, "question", place), options, _label(row["answer"], "answer", LETTERS, place))


def _arc(row: Row, place: str) -> Question:
    """ARC and OpenBookQA: choices with labels; published with a question of stem and choices, on the hub with
    a list of texts and one of labels."""
    asked = row["question"] if "question" in row else row["question_stem"]
    if is_object(asked):
        stem, choices = text(asked, "stem", place), asked.get("choices")
    else:
        stem, choices = text({"question": asked}, "question", place), row.get("choices")
    if is_object(choices):
        texts, labels = choices.get("text"), choices.get("label")
    elif is_list(choices) and all(is_object(choice) for choice in choices):
        texts, labels = [one.get("text") for one in choices], [one.get("label") for one in choices]
    else:
        raise DataError(f"{place}: 'choices' is {choices!r:.60}, and must hold texts and labels")
    options = _options(texts, "choices", place)
    if not is_list(labels) or len(set(labels)) != len(options):
        raise DataError(f"{place}: the labels {labels!r:.60} do not name each of {len(options)} choices")
    return _question(stem, options, _label(row["answerKey"], "answerKey", labels, place))


def _hellaswag(row: Row, place: str) -> Question:
    """HellaSwag: how a text goes on. Marks of WikiHow are taken out, as is usual."""
    before = text(row, "ctx", place)
    if row.get("ctx_b"):
        before = f"{row.get('ctx_a')} {str(row['ctx_b']).capitalize()}"
    if row.get("activity_label"):
        before = f"{row['activity_label']}: {before}"
    said = _without_marks(before)
    endings = [_without_marks(one) for one in _options(row["endings"], "endings", place)]
    label: Any = row["label"]
    if isinstance(label, str) and label.isdecimal():  # so on the hub
        label = int(label)
    return Question(f"Continue: {said}", said, tuple(endings), _index(label, "label", endings, place))


def _without_marks(said: str) -> str:
    """
    >>> _without_marks("Tie a knot. [header] Take [substeps] two ends.")
    'Tie a knot. Take two ends.'
    """
    plain = re.sub(r"\[.*?\]", "", said.strip().replace(" [title]", ". "))
    return plain.replace("  ", " ")


def _instruction(row: Row, place: str) -> Question:
    """The "instruction" form of LLM-Adapters (arXiv:2304.01933): options are the replies that its data teach,
    such as `the correct answer is answer3`, with each name that the answer format lists."""
    asked, output = text(row, "instruction", place), text(row, "output", place)
    more = row.get("input")
    listed = re.search(r"Answer format:\s*(\S+)\s*$", asked)
    if listed is None:
        raise DataError(f"{place}: the instruction does not end on 'Answer format: one/other'")
    names = listed[1].split("/")
    answer = _label(row["answer"], "answer", names, place)
    if not output.endswith(names[answer]):
        raise DataError(f"{place}: the output {output!r:.60} does not end on the answer {names[answer]!r}")
    start = output.removesuffix(names[answer])
    options = [f"{start}{name}" for name in names]
    return _question(f"{asked}\n\n{more}" if more else asked, options, answer)


def _truthful(row: Row, place: str) -> Question:
    """TruthfulQA's table as `mc1`: the best answer is right, all incorrect ones are wrong."""
    wrong = [one.strip() for one in text(row, "Incorrect Answers", place).split(";")]
    options = _options(
        [text(row, "Best Answer", place).strip(), *filter(None, wrong)], "Incorrect Answers", place
    )
    return _question(text(row, "Question", place), options, 0)


FORMATS: tuple[tuple[frozenset[str], Callable[[Row, str], Question]], ...] = (
    (frozenset({"question", "options", "answer"}), _plain),
    (frozenset({"question", "choices", "answer"}), _hub_mmlu),
    (frozenset(MMLU), _lettered),
    (frozenset({"question", "answerKey"}), _arc),
    (frozenset({"question_stem", "choices", "answerKey"}), _arc),
    (frozenset({"ctx", "endings", "label"}), _hellaswag),
    (frozenset({"instruction", "output", "answer"}), _instruction),
    (frozenset({"Question", "Best Answer", "Incorrect Answers"}), _truthful),
)


# --------------------------------------------------------------------------------- options and labels


def _options(found: Any, key: str, place: str) -> list[str]:
    """At least two texts that are not empty."""
    if not is_list(found) or len(found) < 2:
        raise DataError(f"{place}: {key!r} is {found!r:.60}, and must be a list of at least two options")
    return [text({f"{key}.{at}": one}, f"{key}.{at}", place) for at, one in enumerate(found)]


def _index(found: Any, key: str, options: Sequence[str], place: str) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(options):
        raise DataError(
            f"{place}: {key!r} is {found!r:.60}, and must be the place of one of {len(options)} options, "
            f"from 0 to {len(options) - 1}"
        )
    return found


def _label(found: Any, key: str, labels: Sequence[str], place: str) -> int:
    if found not in list(labels):
        raise DataError(
            f"{place}: {key!r} is {found!r:.60}, and must be one of {', '.join(map(repr, labels))}"
        )
    return list(labels).index(found)


# ------------------------------------------------------------------------- a table without a header


def _is_mmlu(path: Path) -> bool:
    """Whether the file is a table of six columns whose first line is a question already."""
    if not path.is_file() or read.ending(path) != ".csv":
        return False
    cells = next((cells for _, cells in _cells(path)), [])
    return len(cells) == len(MMLU) and cells[-1].strip() in tuple(LETTERS)


def _mmlu(path: Path) -> Iterator[tuple[str, Row]]:
    for place, cells in _cells(path):
        if len(cells) != len(MMLU):
            raise DataError(f"{place}: {len(cells)} cells, and MMLU has {len(MMLU)}: {', '.join(MMLU)}")
        yield place, dict(zip(MMLU, cells, strict=True))


def _cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    with lines.opened(path) as raw:
        reader = csv.reader(io.TextIOWrapper(raw, "utf-8", newline=""), strict=True)
        while True:
            place = f"{path}, line {reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                raise DataError(f"{place}: {error}") from None
            if cells is None:
                return
            if cells:
                yield place, cells
