"""Tokens per second of sampling beside transformers.generate and llama.cpp: same model, prompts and dtype.

    python benchmarks/sample.py                 prompts of 64 tokens, 128 new, batches of 1, 8 and 32
    python benchmarks/sample.py --mixed         real lengths: prompts of 20 to 400 tokens, replies that end
    python benchmarks/sample.py --memory 60     whether an hour of sampling holds more than its start

What is compared are pairs of runs, one after the other in one call, each in a process of its own; who goes
first alternates. A process loads the model, makes one call to warm up and times some more. Before any figure
is printed, both sides must have drawn as many tokens, and the same ones where both are greedy in fp32: else
the benchmark ends with exit code 1. How the sides are set up is said in samplers.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import product, zip_longest
from pathlib import Path
from typing import Any, Literal

from prompts import LONGEST, SHORTEST, Job, Prompts, Work
from step import OURS, keep, measured, opened, peak
from workload import SHAPES

PEERS = ("transformers", "transformers-static", "transformers-masked", "llamacpp")
LLAMA = "llamacpp"
TIE = 1e-4  # of logits: what fp32 rounding of another order of sums may exchange
APART = 0.1  # share of tokens that one side may have more, where replies end and rounding ends them elsewhere
GROWTH = 0.05  # share of its memory by which a long run may grow
FEWEST = 8  # calls of a long run, so that a quarter has two


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked."""
    asked = parsed(arguments)
    load = opened(asked)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        for rows in [max(asked.batch)] if asked.memory else asked.batch:
            work = made(asked, rows, Path(place))
            for job in jobs(asked, rows, work):
                found.append(steady(asked, job) if asked.memory else compared(asked, job, work))
    keep(asked, load, found)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    named = {"choices": PEERS, "metavar": "PEER", "help": f"of {', '.join(PEERS)}"}
    add("--peers", nargs="+", default=["transformers", "transformers-static", LLAMA], **named)
    add("--batch", nargs="+", type=int, default=[1, 8, 32], help="prompts decoded at once, at most")
    add("--dtype", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    weights = {"choices": ["exact", "float16"], "default": "exact"}
    add("--weights", **weights, help="float16: those of our engine are rounded, in fp32 arithmetic")
    add("--model", default="smollm2-135m-instruct", help=f"a model, or random weights: {', '.join(SHAPES)}")
    add("--gguf", help="file for llama.cpp; that of a shipped model is found")
    add("--prompt", type=int, default=64, help="tokens of each prompt")
    add("--mixed", action="store_true", help=f"prompts of {SHORTEST} to {LONGEST} tokens, replies that end")
    add("--new", type=int, default=128, help="tokens of a reply, at most")
    add("--temperature", type=float, default=0.0, help="0 is greedy; else replies are not compared")
    add("--repeat", type=int, default=3, help="timed calls of a process")
    add("--rounds", type=int, default=3)
    add("--memory", type=float, metavar="MINUTES", help="only sample for so long, and watch the memory")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--json", type=Path, help="file for all that was measured and drawn")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "turnsmith-benchmark")
    asked = parser.parse_args(arguments)
    if asked.new < 2:
        parser.error("--new: the first token comes with reading the prompt, so it takes 2 at least")
    if asked.memory is not None and not asked.memory > 0:
        parser.error("--memory: it takes some minutes, 0.5 or 60")
    return asked


def made(asked: argparse.Namespace, rows: int, place: Path) -> dict[str, Any]:
    """The prompts of all calls, as a file for both sides, and their counts."""
    file = place / f"{rows}.json"
    wanted = {
        "model": asked.model,
        "gguf": asked.gguf,
        "prompt": None if asked.mixed or asked.memory else asked.prompt,
        "rows": rows,
        "repeat": asked.repeat,
        "seed": asked.seed,
        "folder": str(asked.folder),
        "file": str(file),
    }
    return {"file": str(file), **measured("prompts", json.dumps(wanted), asked.threads)}


def jobs(asked: argparse.Namespace, rows: int, work: dict[str, Any]) -> Iterator[Job]:
    """Ours in each dtype."""
    dtypes: list[Literal["float32", "bfloat16"]] = asked.dtype if asked.weights == "exact" else ["float32"]
    for dtype in dtypes:
        yield Job(
            model=work["model"],
            gguf=work["gguf"],
            file=work["file"],
            side=OURS,
            dtype=dtype,
            weights=asked.weights,
            rows=rows,
            new=asked.new,
            temperature=asked.temperature,
            threads=asked.threads,
        )


# ------------------------------------------------------------------------------------- what is compared


def compared(asked: argparse.Namespace, job: Job, work: dict[str, Any]) -> dict[str, Any]:
    """Measure one setting against each peer in alternating pairs, and print it."""
    print(f"\n{title(job, work, asked.mixed)}", flush=True)
    given = job.work()
    pairs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers(asked.peers, job)}
    for turn, peer in product(range(asked.rounds), pairs):
        both = [job, replace(job, side=peer)]
        runs = {
            one.side: measured("samplers", one.argument, asked.threads)
            for one in (both if turn % 2 == 0 else both[::-1])
        }
        runs["replies"] = agree(job, given, peer, runs[OURS], runs[peer])
        pairs[peer].append(runs)
    own = [runs[OURS] for rows in pairs.values() for runs in rows]
    if own:
        print(head())
    for name, runs in [(OURS, own), *((peer, [r[peer] for r in rows]) for peer, rows in pairs.items())]:
        if runs:
            print(line(name, runs))
    for peer, rows in pairs.items():
        print(ratio_line(peer, rows), flush=True)
    return {"job": asdict(job), "work": work, "pairs": pairs}


def peers(asked: Sequence[str], job: Job) -> Iterator[str]:
    """Those that can do it; a line for each that cannot."""
    for peer in asked:
        if peer == LLAMA and importlib.util.find_spec("llama_cpp") is None:
            print(f"  {peer}: not run, llama_cpp is not installed")
        elif peer == LLAMA and job.gguf is None:
            print(f"  {peer}: not run, this model comes from no GGUF file: name one with --gguf")
        elif peer == LLAMA and job.temperature:
            print(f"  {peer}: not run, it is set up to be greedy")
        else:
            yield peer


def agree(job: Job, work: Work, peer: str, ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, int]:
    """How many replies there are, how many are equal and how many part at a tie; ends the benchmark where the
    two did not do the same."""
    counted = tokens(ours), tokens(theirs)
    short = [len(reply) for one in (ours, theirs) for reply in flat(one) if len(reply) != job.new]
    if len(flat(ours)) != len(flat(theirs)) or (short and not work.stop):
        raise SystemExit(
            f"{peer} did not do the same: {len(flat(theirs))} replies of {counted[1]} tokens, ours "
            f"{len(flat(ours))} of {counted[0]}, where each should have {job.new}"
        )
    if abs(counted[0] - counted[1]) > APART * min(counted):
        raise SystemExit(
            f"{peer} drew {counted[1]} tokens, ours are {counted[0]}: too far apart for a ratio (at most "
            f"{APART:.0%}). Replies ended at other places: take more calls with --repeat, or float32"
        )
    equal = sum(one == other for one, other in zip(flat(ours), flat(theirs), strict=True))
    exact = job.dtype == "float32" and job.weights == "exact" and job.temperature == 0 and peer != LLAMA
    found = {"replies": len(flat(ours)), "equal": equal, "ties": 0}
    if exact and equal < found["replies"]:
        found["ties"] = ties(job, peer, partings(work, ours["replies"], theirs["replies"]))
    return found


def ties(job: Job, peer: str, cases: Sequence[dict[str, Any]]) -> int:
    """How many cases there are, all of which must be ties: both tokens within TIE of the best."""
    file = Path(job.file).with_suffix(".ties.json")
    file.write_text(json.dumps(cases))
    asked = json.dumps({"model": job.model, "file": str(file)})
    gaps: Any = measured("ties", asked, job.threads)
    for case, gap in zip(cases, gaps, strict=True):
        if not gap <= TIE:
            raise SystemExit(
                f"greedy replies in {job.dtype} differ: {case['where']}, where {OURS} draws {case['one']} "
                f"and {peer} {case['other']}. One of their logits is {gap:.3g} below the best; a tie has at "
                f"most {TIE:g}"
            )
    return len(cases)


def partings(work: Work, ours: Sequence[Prompts], theirs: Sequence[Prompts]) -> list[dict[str, Any]]:
    """Where two replies part: `ids` before it, and the tokens `one` and `other`. Raises SystemExit where one
    reply goes on after the other's end."""
    found = []
    for call, (prompts, *sides) in enumerate(zip(work.calls[1:], ours, theirs, strict=True)):
        for number, (prompt, one, other) in enumerate(zip(prompts, *sides, strict=True)):
            if one == other:
                continue
            place = next(i for i, (a, b) in enumerate(zip_longest(one, other)) if a != b)
            where = f"call {call}, prompt {number}, token {place}"
            if place == min(len(one), len(other)):
                raise SystemExit(f"{where}: only one of the replies goes on, to {len(one)} and {len(other)}")
            ids = prompt + one[:place]
            found.append({"ids": ids, "one": one[place], "other": other[place], "where": where})
    return found


# ------------------------------------------------------------------------------------- what is printed


def title(job: Job, work: dict[str, Any], mixed: bool) -> str:
    drawing = "greedy" if job.temperature == 0 else f"temperature {job.temperature:g}"
    lengths = f"{work['shortest']} to {work['longest']}" if mixed else f"{work['longest']}"
    replies = f"replies of {'at most ' if mixed else ''}{job.new}"
    return (
        f"{drawing} {job.dtype}, batch {job.rows}: {work['prompts']} prompts of {lengths} tokens, {replies}"
    )


def head() -> str:
    columns = ["tokens/s", "decode", "first s", "drawn", "peak GiB"]
    return f"  {'':<20}" + "".join(f"{column:>11}" for column in columns) + "  weights"


def line(name: str, runs: Sequence[dict[str, Any]]) -> str:
    """The middle of all runs of a side. decode: tokens per second without those that come with the prompt."""
    apart = bool(runs[0]["first"])
    cells = [
        f"{statistics.median(map(rate, runs)):,.1f}",
        f"{statistics.median(map(decoding, runs)):,.1f}" if apart else "-",
        f"{statistics.median(statistics.median(run['first']) for run in runs):.3f}" if apart else "-",
        f"{tokens(runs[0]):,}",
        f"{statistics.median(map(peak, runs)):.2f}",
    ]
    return f"  {name:<20}" + "".join(f"{cell:>11}" for cell in cells) + f"  {runs[0]['weights']}"


def ratio_line(peer: str, rows: Sequence[dict[str, Any]]) -> str:
    """How many times as fast we are, the median of the pairs and the least and most, and how the replies
    compare."""
    ratios = sorted(rate(runs[OURS]) / rate(runs[peer]) for runs in rows)
    memory = statistics.median(peak(runs[OURS]) / peak(runs[peer]) for runs in rows)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} pairs)"
    count = {key: sum(runs["replies"][key] for runs in rows) for key in ("replies", "equal", "ties")}
    tied = f", {count['ties']} part at a tie" if count["ties"] else ""
    return (
        f"  {OURS} is {statistics.median(ratios):.2f} times as fast as {peer} {spread}, memory {memory:.2f}; "
        f"{count['equal']} of {count['replies']} replies equal{tied}"
    )


def flat(run: dict[str, Any]) -> list[list[int]]:
    """All replies."""
    return [reply for made in run["replies"] for reply in made]


def tokens(run: dict[str, Any]) -> int:
    """That were drawn in the timed calls."""
    return sum(map(len, flat(run)))


def rate(run: dict[str, Any]) -> float:
    """Tokens per second of all timed calls together, reading the prompts included."""
    return tokens(run) / sum(run["seconds"])


def decoding(run: dict[str, Any]) -> float:
    """Tokens per second without the first of each reply and the time that these take."""
    later = sum(run["seconds"]) - len(run["seconds"]) * statistics.median(run["first"])
    return (tokens(run) - len(flat(run))) / later


# ------------------------------------------------------------------------------------------ a long run


def steady(asked: argparse.Namespace, job: Job) -> dict[str, Any]:
    """Sample for so long and print what is held; ends the benchmark where that has grown."""
    job = replace(job, temperature=asked.temperature or 1.0)
    wanted = json.dumps({"job": asdict(job), "minutes": asked.memory})
    run = measured("soak", wanted, asked.threads)
    if len(run["mib"]) < FEWEST:
        raise SystemExit(f"{len(run['mib'])} calls in {asked.memory:g} minutes are too few: give it longer")
    first, last = quarters(run["mib"])
    grown, hourly = last / first - 1, slope(run["seconds"], run["mib"])
    print(
        f"\nmemory {job.dtype}, up to {job.rows} prompts a call: {len(run['mib'])} calls, {run['tokens']:,} "
        f"tokens, {run['seconds'][-1] / 60:.1f} minutes\n  {first:,.1f} MiB in the first quarter, "
        f"{last:,.1f} in the last ({grown:+.1%}), slope {hourly:+,.1f} MiB an hour",
        flush=True,
    )
    if last > (1 + GROWTH) * first:
        raise SystemExit(f"it holds {grown:.1%} more at the end than at the start, {GROWTH:.0%} is allowed")
    return {"job": asdict(job), **run}


def quarters(mib: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and of the last quarter."""
    size = len(mib) // 4
    return statistics.median(mib[:size]), statistics.median(mib[-size:])


def slope(seconds: Sequence[float], mib: Sequence[float]) -> float:
    """MiB an hour, by least squares over all calls."""
    return statistics.linear_regression([one / 3600 for one in seconds], mib).slope


if __name__ == "__main__":
    main()
