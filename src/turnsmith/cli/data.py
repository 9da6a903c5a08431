"""`turnsmith data`: what is in a file, shown row by row, and divided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from turnsmith.cli import conversations, convert, split
from turnsmith.cli.common import AsJson, BadRows, BadRowsTo, DataFile, Format, Use, print_json, visible

WIDE = 100  # characters of a line that shows a text


class Described(TyperGroup):
    """A group of which `turnsmith data FILE` means `turnsmith data describe FILE`."""

    default = "describe"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the verb in where the first argument is none."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Described,
    help="Look at data files, show rows, divide and convert them. `turnsmith data FILE` describes a file.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command("describe")
def describe(
    file: DataFile,
    format: Format = "auto",
    model: Annotated[
        str | None, typer.Option(help="Count tokens by this model's tokenizer and template.")
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Conversations that tokens and languages are measured on; 0: none.")
    ] = 1000,
    near: Annotated[
        int, typer.Option(help="Examples, from the first on, that are compared for near duplicates; 0: none.")
    ] = 50_000,
    bad_rows: BadRows = "stop",
    bad_rows_to: BadRowsTo = None,
    use: Use = None,
    as_json: AsJson = False,
) -> None:
    """Say what a data file holds: format, counts, roles, lengths, duplicates, languages, suspicious rows.

    `turnsmith data FILE` is short for it.
    """
    from turnsmith.recipes import describing

    found = describing.describe(
        file, format=format, model=model, sample=sample, near=near, bad_rows=bad_rows,
        bad_rows_to=bad_rows_to, use=use or (),
    )  # fmt: skip
    if as_json:
        print_json(found)
        return
    for line in _lines(found):
        print(visible(line))


app.command("show")(conversations.command)
app.command("split")(split.command)
app.command("convert")(convert.command)


# ------------------------------------------------------------------------------------ in the terminal


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"file          {found['file']}"
    yield f"format        {found['format']}, {'guessed: ' if found['guessed'] else ''}{found['why']}"
    yield f"rows          {found['rows']:,}"
    for reason, count in found["skipped"].items():
        yield f"              {count:,} skipped: {reason}"
    for reason, count in found["bad_rows"].items():
        yield f"              {count:,} {reason}"
    if found["bad_rows_in"]:
        yield f"              bad rows: {found['bad_rows_in']}"
    yield f"examples      {found['examples']:,}"
    if found["examples"]:
        yield f"parts         {_counted(found['parts'])}"
        yield f"roles         {_counted(found['roles'])}"
        yield f"messages      {_spread(found['messages'])}"
        yield f"characters    {_spread(found['characters'])}"
        yield from _tokens(found["tokens"])
        yield from _languages(found["languages"])
        yield from _duplicates(found)
        yield from _flags("suspicious", found["suspicious"], "nothing")
        yield from _flags("personal", found["personal"], "no links, e-mail addresses, phone or card numbers")
        yield from _first(found["first"])


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _spread(spread: Mapping[str, int]) -> str:
    words = {"least": "least", "median": "median", "p90": "90 % up to", "p99": "99 % up to", "most": "most"}
    return ", ".join(f"{word} {spread[name]:,}" for name, word in words.items())


def _tokens(tokens: Mapping[str, Any]) -> Iterator[str]:
    if tokens["model"] is None:
        yield "tokens        not counted: name a model with --model, and --sample above 0"
        return
    drawn = f"{tokens['measured']:,} of {tokens['of']:,} conversations, by {tokens['model']}"
    yield (
        f"tokens        {_spread(tokens)} ({drawn})" if "most" in tokens else f"tokens        none ({drawn})"
    )
    over = ", ".join(f"{count:,} over {limit:,}" for limit, count in tokens.get("over", {}).items())
    if over:
        yield f"              {over}"
    for reason, flag in tokens["refused"].items():
        yield f"              {flag['count']:,} cannot be rendered: {reason}  {_ids(flag['first'])}"


def _languages(languages: Mapping[str, Any]) -> Iterator[str]:
    measured = languages["measured"]
    if not measured:
        yield "languages     not looked at (--sample 0)"
        return
    counts = list(languages["counts"].items())
    said = ", ".join(f"{name} {count / measured:.1%}" for name, count in counts[:8])
    more = f", and {len(counts) - 8} more" if len(counts) > 8 else ""
    yield f"languages     {said}{more} ({measured:,} of {languages['of']:,} conversations)"


def _duplicates(found: Mapping[str, Any]) -> Iterator[str]:
    near, asked = found["near_duplicates"], found["answered_differently"]
    yield f"duplicates    {found['duplicates']:,} examples repeat an earlier one"
    yield from _groups(found["duplicate_groups"])
    compared = f"of the {near['compared']:,} different ones that were compared"
    yield f"near          {near['examples']:,} {compared} nearly repeat another ({near['groups']:,} groups)"
    if near["left_out"]:
        yield f"              {near['left_out']:,} pairs that share a part were too many to compare"
    yield from _groups(near["first"])
    yield f"same prompt   {asked['prompts']:,} prompts have different answers"
    yield from _groups(asked["first"])


def _groups(groups: list[Mapping[str, Any]]) -> Iterator[str]:
    for group in groups:
        text = group["text"].replace("\n", " ")
        yield f"              {group['count']:,} x {text[: WIDE // 2]!r}  {_ids(group['ids'])}"


def _flags(title: str, flags: Mapping[str, Mapping[str, Any]], none: str) -> Iterator[str]:
    if not flags:
        yield f"{title:<14}{none} was found" if title == "suspicious" else f"{title:<14}{none}"
        return
    yield f"{title:<14}look at rows with: turnsmith data show FILE ID"
    for reason, flag in sorted(flags.items(), key=lambda pair: -pair[1]["count"]):
        yield f"              {flag['count']:,} {reason}  {_ids(flag['first'])}"


def _ids(ids: list[str]) -> str:
    return f"[{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}]"


def _first(parts: Mapping[str, list[Mapping[str, str]]]) -> Iterator[str]:
    for part, messages in parts.items():
        yield f"\nfirst example, {part}:"
        for message in messages[:6]:
            yield f"  {message['role']}: {message['content'][: 2 * WIDE]}"
