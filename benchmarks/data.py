"""Rows per second and memory of reading, rendering and tokenising, beside what one writes without Turnsmith.

    python benchmarks/data.py speed --other PYTHON      20,000 chats, against `datasets`, as ratios
    python benchmarks/data.py memory                    peak memory at 100,000 and at 1,000,000 chats

PYTHON is an interpreter with `datasets` and `transformers`. What is compared are pairs of runs, one after the
other in one call, so that a machine which is slower for an hour slows both. Files go to --folder and are used
again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

BASE = "smollm2-135m-instruct"
LENGTH = 1024


def main() -> None:
    """Do what was asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["speed", "memory", "ours", "theirs", "check"])
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--other", default=sys.executable, help="interpreter that has datasets")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, nargs="+", default=[len(os.sched_getaffinity(0)), 1])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "turnsmith-benchmark")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--tokenizer")
    asked = parser.parse_args()
    if asked.what == "speed":
        speed(asked)
    elif asked.what == "memory":
        memory(asked)
    else:
        inside = {"ours": ours, "theirs": theirs, "check": check}[asked.what]
        print(json.dumps(inside(asked)))


# --------------------------------------------------------------------------------------------- what is asked


def speed(asked: argparse.Namespace) -> None:
    """Print rows per second of both and their ratio, for each number of cores."""
    for rows in asked.rows or [20_000]:
        file, tokenizer = chats(rows, asked.folder), str(located())
        for cores in asked.cores:
            pairs = [
                (
                    measured(sys.executable, "ours", file, cores, tokenizer),
                    measured(asked.other, "theirs", file, cores, tokenizer),
                )
                for _ in range(asked.repeats)
            ]
            ratios = sorted(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
            print(f"{rows:,} chats, {cores} processes, load {os.getloadavg()[0]:.1f}")
            for name, ones in zip(("turnsmith", "datasets"), zip(*pairs, strict=True), strict=True):
                fast = statistics.median(rows / one["seconds"] for one in ones)
                peak = statistics.median(one["peak"] for one in ones) / 2**20
                print(f"  {name:<10}{fast:>10,.0f} rows/s{peak:>10,.0f} MiB at most")
            middle = statistics.median(ratios)
            print(
                f"  turnsmith is {middle:.2f} times as fast ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True
            )


def memory(asked: argparse.Namespace) -> None:
    """Print the peak memory of `turnsmith.check` on data of several sizes, each in a fresh process."""
    for rows in asked.rows or [100_000, 1_000_000]:
        found = measured(sys.executable, "check", chats(rows, asked.folder), 0, str(located()))
        print(
            f"{rows:,} chats: {found['peak'] / 2**20:,.0f} MiB at most, all processes together (this one "
            f"{found['largest'] / 2**20:,.0f}), {found['seconds']:,.0f} s, {found['tokens']:,} tokens",
            flush=True,
        )


# --------------------------------------------------------------------------------- in processes of their own


def ours(asked: argparse.Namespace) -> dict[str, Any]:
    """Read a file as a data step does, and write tokens with their loss mask."""
    from collections import Counter

    from transformers import AutoTokenizer

    from turnsmith.data import archive, formats, store
    from turnsmith.data.prepare import Terms
    from turnsmith.data.render import Renderer
    from turnsmith.registry import Registry

    renderer = Renderer(AutoTokenizer.from_pretrained(asked.tokenizer))
    terms = Terms(parts=("text",), length=LENGTH, over="oldest")
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        started = time.perf_counter()
        _, examples = formats.stream(asked.file, "auto", Registry(), Counter())
        kept = archive.write(Path(place, "all.jsonl"), examples)
        read = time.perf_counter() - started
        store.write(Path(place), kept, renderer, terms, processes=asked.cores[0])
        return {"seconds": time.perf_counter() - started, "reading": read}


def theirs(asked: argparse.Namespace) -> dict[str, Any]:
    """The same with `datasets`: ids alone, without a mask."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asked.tokenizer)

    def render(row: Mapping[str, Any]) -> dict[str, Any]:
        return dict(tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=True))

    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        started = time.perf_counter()
        read = Dataset.from_json(str(asked.file), cache_dir=place)
        processes = asked.cores[0] if asked.cores[0] > 1 else None
        made = read.map(render, remove_columns=read.column_names, num_proc=processes)
        assert len(made) == len(read)
        return {"seconds": time.perf_counter() - started}


def check(asked: argparse.Namespace) -> dict[str, Any]:
    """Read, split, check and tokenise through a recipe."""
    import turnsmith

    fit = {"epochs": 1, "length": LENGTH, "over": "oldest"}
    data = {"name": {"train": 0.95, "heldout": 0.05}, "read": str(asked.file)}
    steps = [{"data": data}, {"train": {"name": "tuned", "data": "train", "fit": fit}}]
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        os.environ["TURNSMITH_HOME"] = place
        started = time.perf_counter()
        recipe = {"title": "Memory", "base": asked.tokenizer, "forgetting": False, "steps": steps}
        (found,) = turnsmith.check(recipe)["train"]
        assert {"torch", "transformers"} <= set(sys.modules)
        return {"seconds": time.perf_counter() - started, "tokens": found["tokens"]}


# ---------------------------------------------------------------------------------------- how it is measured


def measured(python: str, what: str, file: Path, cores: int, tokenizer: str) -> dict[str, Any]:
    """What a fresh process says of itself, with `peak` and `largest`: bytes of it and its children together,
    and of it alone, looked at 20 times a second."""
    command = [python, __file__, what, "--file", str(file), "--folder", str(file.parent)]
    command += ["--cores", str(cores), "--tokenizer", tokenizer]
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **quiet})
    peaks = {"peak": 0, "largest": 0}
    watching = threading.Thread(target=watch, args=(child, peaks))
    watching.start()
    said, _ = child.communicate()
    watching.join()
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return {**json.loads(said.splitlines()[-1]), **peaks}


def watch(child: subprocess.Popen[str], peaks: dict[str, int]) -> None:
    """Keep the largest sums of resident memory until the process ends."""
    while child.poll() is None:
        sizes = [resident(number) for number in family(child.pid)]
        peaks["peak"] = max(peaks["peak"], sum(sizes))
        peaks["largest"] = max(peaks["largest"], sizes[0])
        time.sleep(0.05)


def family(number: int) -> Iterator[int]:
    """The process and all its descendants."""
    yield number
    for task in Path(f"/proc/{number}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # it has ended
            continue
        for one in children:
            yield from family(int(one))


def resident(number: int) -> int:
    """Bytes of a process in memory; pages that it shares with others are counted for each."""
    try:
        return int(Path(f"/proc/{number}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# -------------------------------------------------------------------------------------------------- the data


def located() -> Path:
    from turnsmith.models import locate

    return Path(locate.locate(BASE))


def chats(rows: int, folder: Path) -> Path:
    """A jsonl file of so many chats of 2 to 8 messages: stretches of the chats that come with Turnsmith."""
    from collections import Counter

    from turnsmith.data import formats, read
    from turnsmith.registry import Registry
    from turnsmith.types import Conversation

    file = folder / f"chats-{rows}.jsonl"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    _, examples = formats.stream(read.locate("chitchat"), "auto", Registry(), Counter())
    texts = [one.parts["text"] for one in examples]
    said = [
        [{"role": m.role, "content": m.content} for m in one.messages]
        for one in texts
        if isinstance(one, Conversation)
    ]
    said = [messages for messages in said if len(messages) > 1]
    rng = Random(0)
    aside = file.with_suffix(".partial")
    with aside.open("w", encoding="utf-8") as opened:
        for number in range(rows):
            messages = rng.choice(said)
            first = 2 * rng.randrange(len(messages) // 2)
            own = messages[first : first + 2 * rng.randint(1, 4)]
            own = own[: len(own) // 2 * 2]
            opened.write(json.dumps({"id": f"chat-{number}", "messages": own}, ensure_ascii=False) + "\n")
    shutil.move(aside, file)
    return file


if __name__ == "__main__":
    main()
