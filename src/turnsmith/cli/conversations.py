"""`turnsmith data show`: rows of a file as conversations that can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson, BadRows, BadRowsTo, DataFile, Format, Use, print_json, visible
from turnsmith.types import is_object

if TYPE_CHECKING:
    from rich.text import Text

    from turnsmith.types import Conversation, Example, Message

STYLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow", "text": "white"}


def command(
    file: DataFile,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of examples.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only examples in which this is said, in any case.")
    ] = None,
    start: Annotated[
        int, typer.Option("--from", metavar="N", help="The first example to look at, from 1.")
    ] = 1,
    count: Annotated[int | None, typer.Option(help="Most examples; 3 where no ids are given.")] = None,
    format: Format = "auto",
    bad_rows: BadRows = "stop",
    bad_rows_to: BadRowsTo = None,
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Print examples of a data file as conversations: roles, thoughts, tool calls, weights of the loss."""
    from rich.console import Console

    from turnsmith.data.formats import to_row
    from turnsmith.recipes.showing import chosen

    found = chosen(
        file, ids or (), where=where, start=start, count=count, format=format, bad_rows=bad_rows,
        bad_rows_to=bad_rows_to, use=use or (),
    )  # fmt: skip
    if as_json:
        print_json([to_row(example) for example in found])
        return
    console = Console(highlight=False, soft_wrap=True)
    for example in found:
        for line in _example(example):
            console.print(line)


def _example(example: Example) -> Iterator[Text]:
    yield _text(f"example {example.id}", "bold")
    for name, value in {**example.values, **example.meta}.items():
        if name != "id":
            yield _text(f"{name}: {_short(value)}", "dim")
    for name, part in example.parts.items():
        for number, conversation in enumerate(part if isinstance(part, tuple) else (part,), start=1):
            yield _text(f"-- {name}{f', {number}' if isinstance(part, tuple) else ''}", "dim")
            yield from _conversation(conversation)
    yield _text("", "")


def _conversation(conversation: Conversation) -> Iterator[Text]:
    names = [str(_named(schema)) for schema in conversation.tools]
    if names:
        yield _text(f"tools: {', '.join(names)}", "dim")
    for message in conversation.messages:
        yield from _message(message)


def _named(schema: Mapping[str, Any]) -> object:
    inner = schema.get("function")
    return inner.get("name") if is_object(inner) else schema.get("name")


def _message(message: Message) -> Iterator[Text]:
    style = STYLES[message.role]
    notes = [
        *([message.name] if message.name else ()),
        *([f"answers {message.call_id}"] if message.call_id else ()),
        *([f"weight {message.weight:g}"] if message.weight is not None else ()),
        *([f"{len(message.ids)} sampled tokens"] if message.ids is not None else ()),
    ]
    said = f" ({', '.join(notes)})" if notes else ""
    yield _text(f"{message.role}{said}:", f"bold {style}")
    if message.thinking is not None:
        yield _text(_indented(f"thinks: {message.thinking}"), f"italic dim {style}")
    if message.content or not message.calls:
        yield _text(_indented(message.content), f"dim {style}" if message.weight == 0 else style)
    for call in message.calls:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        yield _text(_indented(f"calls {call.name}({arguments}){f' as {call.id}' if call.id else ''}"), style)
    for span in message.spans:
        said = message.content[span.start : span.end]
        yield _text(
            _indented(f"weight {span.weight:g} on characters {span.start}:{span.end}: {said!r}"), "dim"
        )
    if message.fields:
        yield _text(_indented(f"fields: {_short(message.fields)}"), "dim")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _text(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(visible(text), style=style)
