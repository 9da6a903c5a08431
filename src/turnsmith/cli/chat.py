"""`turnsmith chat`: talk to one model, or to two side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from turnsmith.cli.common import AsJson, print_json
from turnsmith.errors import TurnsmithError, UsageError
from turnsmith.sample.live import SLICE
from turnsmith.sample.talk import Talk
from turnsmith.types import Conversation, Sampling

if TYPE_CHECKING:
    from rich.columns import Columns

HELP = (
    "/reset forgets what was said, /system TEXT sets a system text, /save FILE writes it down, /quit leaves"
)


@dataclass
class Table:
    """A talk with each model, from the same user messages."""

    talks: Mapping[str, Talk]

    def reset(self, system: str | None) -> None:
        """Forget everything; a system text opens the new conversations."""
        for talk in self.talks.values():
            talk.reset(system)

    def ask(self, text: str) -> Generator[dict[str, str]]:
        """What each model has answered so far, again and again until all have finished.

        Where one cannot, or the caller gives up, nothing of this turn is remembered.
        """
        before = {name: talk.said for name, talk in self.talks.items()}
        running = {name: talk.stream(text) for name, talk in self.talks.items()}
        shown = dict.fromkeys(running, "")
        try:
            while running:
                for name, stream in list(running.items()):
                    piece = next(stream, None)
                    if piece is None:
                        del running[name]
                    else:
                        shown[name] += piece
                yield dict(shown)
        finally:
            if running:
                for name, talk in self.talks.items():
                    talk.said = before[name]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What was said with each model, in the messages format."""
        return rows({name: talk.said for name, talk in self.talks.items()})

    def save(self, file: Path) -> int:
        """Append the rows; gives how many."""
        try:
            with file.open("a", encoding="utf-8") as opened:
                opened.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        return len(self.rows)


def rows(said: Mapping[str, Conversation]) -> list[dict[str, Any]]:
    """What was said with each model, in the messages format."""
    return [
        {"model": name, "messages": [{"role": one.role, "content": one.content} for one in whole.messages]}
        for name, whole in said.items()
    ]


def command(
    models: Annotated[list[str], typer.Argument(help="One model, or two to talk to side by side.")],
    system: Annotated[str | None, typer.Option(help="A system text.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Smallest set of tokens with this probability.")] = 0.95,
    max_new: Annotated[
        int | None, typer.Option(help="Most tokens of a reply: 256, or 15 of a slice with --live.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Only so many of the most probable tokens; 0 for all.")] = 0,
    min_p: Annotated[float, typer.Option(help="Least share of the best token's probability.")] = 0.0,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: what was said already becomes less probable.")
    ] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends a reply; may be repeated.")] = None,
    draft: Annotated[
        str | None,
        typer.Option(help="Guess ahead by `prompt` or a smaller model: sooner, the same replies."),
    ] = None,
    weights: Annotated[
        Literal["exact", "float16"],
        typer.Option(help="`float16` rounds a tuned model's weights on a CPU: sooner, other replies."),
    ] = "exact",
    over: Annotated[
        Literal["fail", "oldest"], typer.Option(help="What is done with what exceeds the context.")
    ] = "fail",
    seed: Annotated[int, typer.Option(help="Same seed, same replies.")] = 0,
    say: Annotated[
        list[str] | None, typer.Option(help="A message to send; may be repeated. No prompt then.")
    ] = None,
    live: Annotated[
        float | None,
        typer.Option(
            help="Talk in slices of so many seconds: typing interrupts a model that is tuned for it, as in "
            "`turnsmith show duplex`."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to one model, or to two side by side; type /help for what else can be typed."""
    if len(models) > 2 or len(set(models)) < len(models):
        raise UsageError("name one model, or two different ones")
    if as_json and not say:
        raise UsageError("--json needs --say: there is nobody to type")
    if live is not None and len(models) > 1:
        raise UsageError("--live talks to one model")
    try:
        sampling = Sampling(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_new=max_new if max_new is not None else 256 if live is None else SLICE.max_new,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            stop=tuple(stop or ()),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    from turnsmith.recipes.talking import chat

    given: Any = {"draft": draft, "weights": weights, "over": over}
    chats = {name: chat(name, sampling=sampling, **given) for name in models}
    if live is not None:
        from turnsmith.cli.live import converse

        (one,) = chats.values()
        said = converse(
            one,
            seconds=live,
            sampling=sampling,
            seed=seed,
            system=system,
            say=say or (),
            show=(lambda _: None) if as_json else print,
        )
        if as_json:
            print_json(rows({models[0]: said}))
        return
    table = Table({name: Talk(one, seed=seed) for name, one in chats.items()})
    table.reset(system)
    if as_json:
        for text in say or ():
            for _ in table.ask(text):
                pass
        print_json(table.rows)
    else:
        for text in say or ():
            print(f"> {text}")
            _show(table, text)
        if not say:
            _converse(table, system)


def _converse(table: Table, system: str | None) -> None:
    """Read lines until the end of input or /quit."""
    if sys.stdin.isatty():
        print(f"talking to {' and '.join(table.talks)}; {HELP}")
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            print()
            return
        if line == "/quit":
            return
        if line:
            try:
                system = _do(table, line, system)
            except TurnsmithError as error:
                print(f"turnsmith: {error}", file=sys.stderr)


def _do(table: Table, line: str, system: str | None) -> str | None:
    """What a line asks for; gives the system text of the conversations from now on."""
    verb, _, rest = line.partition(" ")
    if verb == "/reset":
        table.reset(system)
        print("(forgotten)")
    elif verb == "/system":
        system = rest or None
        table.reset(system)
        print(
            "(new conversation with this system text)" if rest else "(new conversation without a system text)"
        )
    elif verb == "/save":
        if not rest:
            raise UsageError("/save needs the name of a file, e.g. /save talk.jsonl")
        print(f"({table.save(Path(rest).expanduser())} conversations appended to {rest})")
    elif verb.startswith("/"):
        print(HELP)
    else:
        _show(table, line)
    return system


def _show(table: Table, text: str) -> None:
    """Print the replies as they come; Ctrl-C gives up on them and keeps the conversation as it was."""
    replies = table.ask(text)
    try:
        if len(table.talks) == 1:
            done = 0
            for shown in replies:
                (words,) = shown.values()
                print(words[done:], end="", flush=True)
                done = len(words)
            print()
        elif sys.stdout.isatty():
            _side_by_side(replies)
        else:
            *_, last = replies
            for name, words in last.items():
                print(f"[{name}] {words}")
    except KeyboardInterrupt:
        print("\n(stopped; this turn is forgotten)")
    finally:
        replies.close()


def _side_by_side(replies: Iterator[Mapping[str, str]]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, refresh_per_second=8, vertical_overflow="visible") as live:
        for shown in replies:
            live.update(_columns(shown, console.width))


def _columns(shown: Mapping[str, str], width: int) -> Columns:
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    panels = [Panel(Text(words), title=name, width=width // 2 - 1) for name, words in shown.items()]
    return Columns(panels, padding=0)
