"""`turnsmith feedback`: what people said of replies, as data to tune with."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from turnsmith.cli.common import AsJson, Set, To, changes, print_json
from turnsmith.cli.keys import Database, opened
from turnsmith.errors import UsageError

if TYPE_CHECKING:
    from turnsmith.serve.monitor import Mean, Report
    from turnsmith.serve.store.taking import Done

Kind = Literal["sft", "pairs", "kto", "rankings", "ratings"]
Consent = Annotated[
    Literal["given", "assumed"],
    typer.Option(help="given: words of people who said yes; assumed: also of who was never asked."),
]
Keep = Annotated[bool, typer.Option("--keep-personal", help="Leave addresses, numbers and names in.")]
New = Annotated[bool, typer.Option("--new", help="Only what was judged since this kind was taken last.")]
OBJECTIVES: Mapping[str, str] = {"sft": "sft", "pairs": "dpo"}  # what each kind is tuned with

app = typer.Typer(
    no_args_is_help=True,
    help="Turn what people thought of a server's replies into data, tune, and see when there is enough.",
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Where the rows go.")],
    to: Annotated[Kind, typer.Option(help="What the rows are for.")] = "pairs",
    db: Database = "turnsmith.db",
    consent: Consent = "given",
    keep_personal: Keep = False,
    new: New = False,
    as_json: AsJson = False,
) -> None:
    """Write what was judged as training data, and keep whose words are in it, in case they take them back."""
    done = _taken(db, to, out, consent=consent, keep_personal=keep_personal, new=new)
    if as_json:
        print_json({**_fields(done), "file": str(done.file)})
    else:
        _tell(done)


@app.command()
def tune(
    model: Annotated[str, typer.Argument(help="What is served: a directory, an adapter, a shipped name.")],
    on: Annotated[Literal["sft", "pairs"], typer.Option(help="What it learns from.")] = "pairs",
    db: Database = "turnsmith.db",
    consent: Consent = "given",
    keep_personal: Keep = False,
    new: New = False,
    objective: Annotated[
        str | None, typer.Option(help="dpo for pairs and sft for threads where not given.")
    ] = None,
    trainable: Annotated[str, typer.Option(help="lora, full, layers, biases ...")] = "lora",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    name: Annotated[str, typer.Option(help="What the result is called.")] = "better",
    set: Set = None,
    to: To = None,
    as_json: AsJson = False,
) -> None:
    """Tune what is served on what was judged, and compare the two; nothing that is served changes."""
    from turnsmith.cli.run import carry_out
    from turnsmith.recipes import tuning, yaml12

    data = Path("feedback") / f"{on}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    data.parent.mkdir(exist_ok=True)
    done = _taken(db, on, data, consent=consent, keep_personal=keep_personal, new=new)
    out = sys.stderr if as_json else sys.stdout
    _tell(done, out)
    plan = tuning.plan(
        model,
        data,
        objective=objective or OBJECTIVES[on],
        trainable=trainable,
        steps=steps,
        lr=lr,
        name=name,
        settings={"steps.0.data.by": "tree", **changes(set)},
    )
    for choice in plan.choices:
        print(f"chosen  {choice}", file=out)
    print(yaml12.dump(plan.recipe), file=out)
    carry_out(plan.recipe, name=plan.name, to=to, as_json=as_json)


@app.command()
def watch(
    db: Database = "turnsmith.db",
    least: Annotated[int, typer.Option(help="Messages that were judged since data were taken last.")] = 50,
    every: Annotated[float, typer.Option(help="Seconds between looks; 0 looks once.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Say when enough has come to tune again, and how. It changes nothing by itself."""
    from turnsmith.serve.store import taking

    if every < 0 or least < 1:
        raise UsageError("--every is 0 or more seconds, and --least 1 or more messages")
    store = opened(db)
    try:
        told = 0
        while True:
            found = store.read(taking.new)
            if not every or (found["messages"] >= least and found["messages"] != told):
                told = found["messages"]
                _propose(found, least, db, as_json)
            if not every:
                return
            time.sleep(every)
    finally:
        store.close()


@app.command()
def monitor(
    db: Database = "turnsmith.db",
    model: Annotated[
        str | None, typer.Option(help="Replies of this served name; of all where not given.")
    ] = None,
    hours: Annotated[
        float, typer.Option(help="Length of a window; the newest is compared with all before.")
    ] = 24.0,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A run whose record of seven stages this completes.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at what was served: volume, length, refusals, ratings, topics; exit code 1 if something rings."""
    from dataclasses import asdict

    from turnsmith.recipes.audit import MONITORED
    from turnsmith.serve.monitor import monitored

    store = opened(db)
    try:
        from turnsmith.serve.store.traffic import turns

        report = monitored(store.read(lambda s: turns(s, model=model)), window_seconds=3600 * hours)
    finally:
        store.close()
    if run is not None:
        _beside(run, MONITORED, asdict(report))
    if as_json:
        print_json(asdict(report))
    else:
        _report(report)
    if report.alarms:
        raise typer.Exit(1)


def _beside(run: Path, name: str, report: Mapping[str, Any]) -> None:
    if not (run / "run.json").is_file():
        raise UsageError(f"--run {run}: no finished run is there")
    (run / name).write_text(json.dumps(report, indent=1), "utf-8")


def _report(report: Report) -> None:
    last = report.windows[-1]
    many = "one window" if len(report.windows) == 1 else f"{len(report.windows)} windows"
    print(f"{report.turns} replies in {many}, {last.turns} in the newest")
    for name in ("length", "refusals", "cut", "ratings"):
        found: Mean | None = getattr(last, name)
        if found is not None:
            sure = "" if found.low is None else f" [{found.low:.3g}, {found.high:.3g}]"
            print(f"{name:9} {found.value:.3g}{sure} of {found.n}")
    for alarm in report.alarms:
        print(f"rings: {alarm}")
    if not report.alarms:
        print("nothing rings")
    elif report.retrain:
        print("a training on recent turns is due")


def _propose(found: Mapping[str, int], least: int, db: str, as_json: bool) -> None:
    enough = found["messages"] >= least
    if as_json:
        print_json({"new": dict(found), "enough": enough})
        return
    counts = ", ".join(
        f"{count} {kind}" for kind, count in sorted(found.items()) if kind != "messages" and count
    )
    print(
        f"{found['messages']} messages were judged since data were taken last ({counts or 'nothing'})",
        flush=True,
    )
    if enough:
        print(f"enough to tune: turnsmith feedback tune MODEL --db {db}", flush=True)
    else:
        print(f"{least - found['messages']} more before it is worth it (--least {least})", flush=True)


def _taken(
    db: str, kind: Kind, out: Path, *, consent: Literal["given", "assumed"], keep_personal: bool, new: bool
) -> Done:
    store = opened(db)
    try:
        from turnsmith.serve.store import taking

        return taking.take(store, kind, out, consent=consent, scrub=not keep_personal, fresh_only=new)
    finally:
        store.close()


def _fields(done: Done) -> dict[str, Any]:
    return {name: getattr(done, name) for name in ("rows", "people", "left", "scrubbed")}


def _tell(done: Done, out: Any = None) -> None:
    people = "one person" if done.people == 1 else f"{done.people} people"
    print(f"{done.rows} rows of {people} in {done.file}", file=out)
    for reason, count in done.left.items():
        print(f"left out: {count} {reason}", file=out)
    if done.scrubbed:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(done.scrubbed.items()))
        print(f"taken out of the texts: {counts}", file=out)
