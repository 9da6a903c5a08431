"""Rows to examples. A format is a function of one row; which one a file has is guessed from its columns, and
said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from turnsmith.data import read
from turnsmith.data.messages import (
    arguments_of,
    conversation,
    dump,
    listed,
    load,
    schemas_of,
    silent,
    text_of,
    weight_of,
)
from turnsmith.data.quarantine import Id, Place, Quarantine, refuse
from turnsmith.errors import DataError
from turnsmith.registry import Entry, Registry, format
from turnsmith.types import Call, Conversation, Example, Json, Message, Role, is_list, is_object

Row = Mapping[str, Any]
GUESSED = 1000  # rows that the guess of a format looks at
SHAREGPT: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


class Skip(Exception):
    """Raised by a format for a row that is sound but of no use; counted under its text."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a format made of a row. used: the columns that are in it; the others become meta."""

    parts: Mapping[str, Conversation]
    used: tuple[str, ...]
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    values: Mapping[str, float] = field(default_factory=dict[str, float])


# ------------------------------------------------------------------------------------------- formats


@format("messages", columns=(("messages",),))
def messages(row: Row) -> Parsed:
    """OpenAI messages: `{"messages": [{"role", "content", ...}], "tools"?}`.

    With tool calls (arguments as an object or as JSON text), content in parts of text, reasoning, and what
    the loss weighs as OpenAI, axolotl, ms-swift and verl say it. `developer` reads as `system`.
    """
    functions = row.get("functions") or ()  # as they were before there were tools
    wrapped = [{"type": "function", "function": one} for one in functions]
    said = conversation(row["messages"], "messages", tools=row.get("tools") or wrapped)
    return Parsed({"text": said}, ("messages", "tools", "functions"))


@format("sharegpt", columns=(("conversations",), ("conversation",)))
def sharegpt(row: Row) -> Parsed:
    """ShareGPT: `{"conversations": [{"from": "human", "value": ...}], "system"?, "tools"?}`.

    A `function_call` holds the call as JSON text, an `observation` what came of it.
    """
    column = "conversations" if "conversations" in row else "conversation"
    turns = listed(row[column], column)
    found = [Message("system", text_of(row["system"], "system"))] if row.get("system") else []
    for number, turn in enumerate(turns):
        where = f"{column}[{number}]"
        if not is_object(turn) or "from" not in turn or "value" not in turn:
            raise DataError(f"{where} must have `from` and `value`")
        role = SHAREGPT.get(turn["from"])
        if role is None:
            raise DataError(f"{where} has the unknown role {turn['from']!r}; known are {', '.join(SHAREGPT)}")
        text, weight = text_of(turn["value"], where), weight_of(turn, where)
        if turn["from"] == "function_call":
            found.append(Message(role, "", weight, calls=_written(text, where)))
        else:
            found.append(Message(role, text, weight))
    tools = schemas_of(row.get("tools"))
    return Parsed({"text": Conversation(tuple(found), tools)}, (column, "system", "tools"))


def _written(text: str, where: str) -> tuple[Call, ...]:
    """The call, or the calls in a list, that stand as JSON text."""
    made: Any = arguments_of(f'{{"calls": {text}}}', where)["calls"]
    calls: list[Any] = made if is_list(made) else [made]
    if not all(is_object(call) and isinstance(call.get("name"), str) for call in calls):
        raise DataError(f"{where}: a function_call must have `name` and `arguments`, not {text!r:.60}")
    return tuple(Call(call["name"], arguments_of(call.get("arguments", {}), where)) for call in calls)


@format("alpaca", columns=(("instruction", "output"),))
def alpaca(row: Row) -> Parsed:
    """Alpaca: `instruction`, `input` (joined by a newline if there is one), `output`, `system`, `history`."""
    found = [Message("system", text_of(row["system"], "system"))] if row.get("system") else []
    history: Sequence[Any] = row.get("history") or ()
    for number, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(cast("Sequence[Any]", pair)) != 2:
            raise DataError(f"history[{number}] must be a pair of question and answer")
        asked, answered = text_of(pair[0], "history"), text_of(pair[1], "history")
        found += [Message("user", asked), Message("assistant", answered)]
    asked = text_of(row["instruction"], "instruction")
    if row.get("input"):
        asked = f"{asked}\n{text_of(row['input'], 'input')}"
    found += [Message("user", asked), Message("assistant", text_of(row["output"], "output"))]
    return Parsed(
        {"text": Conversation(tuple(found))}, ("instruction", "input", "output", "system", "history")
    )


@format("completion", columns=(("prompt", "completion"),))
def completion(row: Row) -> Parsed:
    """`prompt` and `completion`, as text or as messages; only the completion learns."""
    asked = silent(conversation(row["prompt"], "prompt", role="user"))
    answer = conversation(row["completion"], "completion", role="assistant")
    return Parsed({"text": asked.then(*answer.messages)}, ("prompt", "completion"))


@format("pairs", columns=(("chosen", "rejected"),))
def pairs(row: Row) -> Parsed:
    """Preference pairs: `chosen` and `rejected` after `prompt`, or whole conversations that share their
    start.

    Only what comes after the shared start learns. A `prompt` that is in the shared start too is there once.
    """
    given = row.get("prompt")
    prompt = conversation(given, "prompt", role="user").messages if given else ()
    chosen = conversation(row["chosen"], "chosen", role="assistant").messages
    rejected = conversation(row["rejected"], "rejected", role="assistant").messages
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) or shared == len(rejected):
        raise DataError("chosen and rejected do not differ, or one only continues the other")
    again = any(chosen[at : at + len(prompt)] == prompt for at in range(shared - len(prompt) + 1))
    start = silent(Conversation((*(() if again else prompt), *chosen[:shared])))
    if not start.messages:
        raise DataError("chosen and rejected share no start and there is no prompt")
    parts = {"chosen": start.then(*chosen[shared:]), "rejected": start.then(*rejected[shared:])}
    return Parsed(parts, ("prompt", "chosen", "rejected"))


@format("text", columns=(("text",),))
def text(row: Row) -> Parsed:
    """`text` alone: every token learns, no template is put around it."""
    return Parsed({"text": Conversation((Message("text", text_of(row["text"], "text")),))}, ("text",))


@format("chitchat", columns=(("messages", "start"),))
def chitchat(row: Row) -> Parsed:
    """Chats of the chitchat data set: turns of time-stamped messages of two people.

    What one sender writes in a row is joined by newlines; who speaks first is the user. `people` goes to
    meta.
    """
    said = [message for turn in row["messages"] for message in turn]
    people = list(dict.fromkeys(message["sender"] for message in said))
    if len(people) != 2:
        raise Skip(f"{len(people)} senders instead of two")
    joined: list[tuple[str, str]] = []
    for message in said:
        words = message["text"].strip()
        if words and joined and joined[-1][0] == message["sender"]:
            joined[-1] = (joined[-1][0], f"{joined[-1][1]}\n{words}")
        elif words:
            joined.append((message["sender"], words))
    first = joined[0][0] if joined else ""
    found = [Message("user" if sender == first else "assistant", words) for sender, words in joined]
    return Parsed({"text": Conversation(tuple(found))}, ("messages",), {"people": sorted(people)})


@format("turnsmith", columns=(("parts", "meta"),))
def turnsmith(row: Row) -> Parsed:
    """What `to_row` writes: examples as they are, nothing lost."""
    if not is_object(row["meta"]):
        raise DataError(f"`meta` must be an object, not {row['meta']!r:.60}")
    parts = {name: load(part) for name, part in row["parts"].items()}
    values = {str(name): float(value) for name, value in row.get("values", {}).items()}
    return Parsed(parts, ("parts", "values", "meta"), row["meta"], values)


# ------------------------------------------------------------------------------- guessing and reading


def guess(rows: Sequence[Row], entries: Sequence[Entry]) -> str:
    """The format whose columns all rows have; the more columns it asks for, the better it fits.

    Raises DataError, naming the columns found, where none fits or two fit equally well.
    """
    common = set(rows[0]).intersection(*rows[1:])
    fits: dict[str, int] = {}
    for entry in entries:
        columns = entry.traits.get("columns", ())
        assert isinstance(columns, list | tuple)
        sizes = [
            len(ones) for ones in columns if isinstance(ones, list | tuple) and set(map(str, ones)) <= common
        ]
        if sizes:
            fits[entry.name] = max(sizes)
    best = [name for name, size in fits.items() if size == max(fits.values())]
    if len(best) != 1:
        what = f"{' and '.join(best)} fit equally well" if best else "no known format has them"
        known = ", ".join(entry.name for entry in entries)
        raise DataError(
            f"columns {', '.join(sorted(common)) or '(none in common)'}: {what}. Say which: {known}"
        )
    return best[0]


def from_file(
    path: Path, name: str, registry: Registry, bad: Quarantine | None = None
) -> tuple[list[Example], str, Counter[str]]:
    """The examples of a file or folder, the name of its format, guessed where `name` is `auto`, and how many
    rows were skipped for which reason. bad: takes the bad rows; without it, the first one is an error."""
    skipped: Counter[str] = Counter()
    name, found = stream(path, name, registry, skipped, bad)
    return list(found), name, skipped


def stream(
    path: Path, name: str, registry: Registry, skipped: Counter[str], bad: Quarantine | None = None
) -> tuple[str, Iterator[Example]]:
    """The name of the format of a file or folder, guessed where `name` is `auto`, and its examples, one at a
    time. skipped and bad: as of `examples`."""
    rows = read.rows(path, bad)
    if name == "auto":
        first = list(islice(rows, GUESSED))
        shown = [row for _, row in first]
        name = guess(shown if bad is None else _alike(shown), registry.entries("format"))
        rows = chain(first, rows)
    return name, examples(rows, name, registry, str(path), skipped, bad)


def _alike(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows with all columns that more than half of the rows have; the others are bad, or have more."""
    counts = Counter(column for row in rows for column in row)
    common = {column for column, count in counts.items() if 2 * count > len(rows)}
    return [row for row in rows if common <= set(row)] or rows


def examples(
    rows: Iterable[tuple[str, Row]],
    name: str,
    registry: Registry,
    where: str,
    skipped: Counter[str],
    bad: Quarantine | None = None,
) -> Iterator[Example]:
    """The examples of rows, one at a time. What is skipped is counted into `skipped` by its reason.

    where: what an error calls the rows that do not know their own place. A row that does not keep to the
    format, or has the id of an earlier one, goes to `bad`; without it DataError names file, line and row.
    """
    parse: Callable[[Row], Parsed] = registry.function("format", name)
    seen: set[str] = set()
    for id, row in rows:
        try:
            parsed = parse(row)
            if id in seen:
                raise DataError(f"an earlier row has the id {str(id)!r} too; ids must differ")
        except Skip as reason:
            skipped[str(reason)] += 1
            continue
        except DataError as error:
            refuse(str(error), _place(id, where), row, bad, id)
            continue
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"is no {name} row ({type(error).__name__}: {error})"
            refuse(reason, _place(id, where), row, bad, id)
            continue
        seen.add(str(id))
        rest = {key: value for key, value in row.items() if key not in parsed.used}
        yield Example(parsed.parts, parsed.values, {**rest, **parsed.meta, "id": str(id)})


def _place(id: str, where: str) -> str | Place:
    return id.place or where if isinstance(id, Id) else where


def to_row(example: Example) -> dict[str, Json]:
    """An example as JSON that the `turnsmith` format reads back."""
    parts: dict[str, Json] = {}
    for name, part in example.parts.items():
        parts[name] = [dump(one) for one in part] if isinstance(part, tuple) else dump(part)
    return {"id": example.id, "parts": parts, "values": dict(example.values), "meta": dict(example.meta)}
