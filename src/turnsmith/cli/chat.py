"""`turnsmith chat`: talk to one model, or to two side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnsmith.cli.common import AsJson
from turnsmith.errors import TurnsmithError, UsageError
from turnsmith.types import Conversation, Message, Reply, Sampling

if TYPE_CHECKING:
    from rich.columns import Columns

    from turnsmith.sample.chat import LocalChat

HELP = (
    "/reset forgets what was said, /system TEXT sets a system text, /save FILE writes it down, /quit leaves"
)


@dataclass
class Talk:
    """One conversation with each model, from the same user messages."""

    models: Mapping[str, LocalChat]
    sampling: Sampling
    seed: int
    system: str | None = None
    said: dict[str, Conversation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything but the system text."""
        start = (Message("system", self.system),) if self.system else ()
        self.said = {name: Conversation(start) for name in self.models}

    def ask(self, text: str) -> Iterator[dict[str, str]]:
        """What each model has answered so far, again and again until all have finished."""
        asked = {name: said.then(Message("user", text)) for name, said in self.said.items()}
        streams: dict[str, Generator[str, None, Reply]] = {
            name: chat.stream(asked[name], sampling=self.sampling, seed=self.seed)
            for name, chat in self.models.items()
        }
        replies: dict[str, Reply] = {}
        shown = dict.fromkeys(streams, "")
        while len(replies) < len(streams):
            for name, stream in streams.items():
                if name in replies:
                    continue
                try:
                    shown[name] += next(stream)
                except StopIteration as end:
                    replies[name] = end.value
            yield dict(shown)
        self.said = {name: asked[name].then(replies[name].message) for name in self.models}

    def save(self, file: Path) -> int:
        """Append one row in the messages format for each model; gives how many."""
        rows = [
            {"model": name, "messages": [{"role": m.role, "content": m.content} for m in said.messages]}
            for name, said in self.said.items()
        ]
        try:
            with file.open("a", encoding="utf-8") as opened:
                opened.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from None
        return len(rows)


def command(
    models: Annotated[list[str], typer.Argument(help="One model, or two to talk to side by side.")],
    system: Annotated[str | None, typer.Option(help="A system text.")] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most probable token.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Smallest set of tokens with this probability.")] = 0.95,
    max_new: Annotated[int, typer.Option(help="Most tokens of a reply.")] = 256,
    seed: Annotated[int, typer.Option(help="Same seed, same replies.")] = 0,
    say: Annotated[
        list[str] | None, typer.Option(help="A message to send; may be repeated. No prompt then.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to one model, or to two side by side; type /help for what else can be typed."""
    if len(models) > 2 or len(set(models)) < len(models):
        raise UsageError("name one model, or two different ones")
    if as_json and not say:
        raise UsageError("--json needs --say: there is nobody to type")
    try:
        sampling = Sampling(temperature=temperature, top_p=top_p, max_new=max_new)
    except ValueError as error:
        raise UsageError(str(error)) from None
    talk = Talk({name: _load(name) for name in models}, sampling, seed, system)
    if as_json:
        for text in say or ():
            for _ in talk.ask(text):
                pass
        _print_json(talk)
    else:
        for text in say or ():
            print(f"> {text}")
            _show(talk, text)
        if not say:
            _converse(talk)


def _converse(talk: Talk) -> None:
    """Read lines until the end of input or /quit."""
    if sys.stdin.isatty():
        print(f"talking to {' and '.join(talk.models)}; {HELP}")
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
                _do(talk, line)
            except TurnsmithError as error:
                print(f"turnsmith: {error}", file=sys.stderr)


def _do(talk: Talk, line: str) -> None:
    verb, _, rest = line.partition(" ")
    if verb == "/reset":
        talk.reset()
        print("(forgotten)")
    elif verb == "/system":
        talk.system = rest or None
        talk.reset()
        print(
            "(new conversation with this system text)" if rest else "(new conversation without a system text)"
        )
    elif verb == "/save":
        if not rest:
            raise UsageError("/save needs the name of a file, e.g. /save talk.jsonl")
        print(f"({talk.save(Path(rest).expanduser())} conversations appended to {rest})")
    elif verb.startswith("/"):
        print(HELP)
    else:
        _show(talk, line)


def _show(talk: Talk, text: str) -> None:
    """Print the replies as they come; Ctrl-C gives up on them and keeps the conversation as it was."""
    before = dict(talk.said)
    try:
        if len(talk.models) == 1:
            done = 0
            for shown in talk.ask(text):
                (words,) = shown.values()
                print(words[done:], end="", flush=True)
                done = len(words)
            print()
        elif sys.stdout.isatty():
            _side_by_side(talk, text)
        else:
            *_, last = talk.ask(text)
            for name, words in last.items():
                print(f"[{name}] {words}")
    except KeyboardInterrupt:
        talk.said = before
        print("\n(stopped; this turn is forgotten)")


def _side_by_side(talk: Talk, text: str) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, refresh_per_second=8, vertical_overflow="visible") as live:
        for shown in talk.ask(text):
            live.update(_columns(shown, console.width))


def _columns(shown: Mapping[str, str], width: int) -> Columns:
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    panels = [Panel(Text(words), title=name, width=width // 2 - 1) for name, words in shown.items()]
    return Columns(panels, padding=0)


def _load(reference: str) -> LocalChat:
    import torch

    from turnsmith import wheels
    from turnsmith.data.render import Renderer
    from turnsmith.models import load
    from turnsmith.sample.chat import LocalChat
    from turnsmith.sample.engine import LocalEngine
    from turnsmith.train.place import arithmetic, device

    dtype, _ = arithmetic("auto", wheels.home() / "arithmetic.json")
    loaded, tokenizer = load.load(reference, dtype=dtype, device=device())
    model: Any = loaded
    renderer = Renderer(tokenizer)
    model.to(getattr(torch, dtype)).eval()  # the adapter too
    return LocalChat(LocalEngine(model, stop=[renderer.stop]), renderer)


def _print_json(talk: Talk) -> None:
    from turnsmith.cli.common import print_json

    rows: Sequence[Any] = [
        {"model": name, "messages": [{"role": m.role, "content": m.content} for m in said.messages]}
        for name, said in talk.said.items()
    ]
    print_json(rows)
