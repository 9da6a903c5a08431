"""The peak of memory that is estimated for a training, against the peak that is measured.

    python benchmarks/memory.py [--base made] [--hidden 512] [--layers 8] [--row 512]

Each combination is looked at by `turnsmith check` and then run for a few steps, each in a process of its own.
`check` is what the first said; `estimate` what the second expected before its first step, with the model
loaded; `peak` what it held at most. In bytes. Exits with 1 where either is off by more than a quarter.
base: `made` is a Llama of the given size, anything else a model's name.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = ("full", "half", "lora")
ALLOWED = 0.25  # of the measured peak
VOCABULARY = 16_000


def recipe(base: Path, data: Path, way: str, row: int, dtype: str) -> dict[str, Any]:
    """Three steps of two examples that fill a row each."""
    fit = {"steps": 3, "batch": 2, "row": row, "length": row, "over": "longest", "dtype": dtype}
    train = {"name": "tuned", "data": "chats", "objective": "sft", "trainable": way, "fit": fit}
    return {
        "title": "Memory",
        "base": str(base),
        "forgetting": False,
        "steps": [{"data": {"name": "chats", "read": str(data)}}, {"train": train}],
    }


def checked(plain: dict[str, Any]) -> dict[str, Any]:
    """What a look ahead says."""
    import turnsmith

    (found,) = turnsmith.check(plain)["train"]
    return {"check": found["memory_gib"] * 2**30}


def trained(plain: dict[str, Any]) -> dict[str, Any]:
    """What the training expected, and what it held."""
    import turnsmith

    (run,) = turnsmith.run(plain, to=Path(os.environ["TURNSMITH_HOME"]) / "run")
    step = run["steps"][-1]
    return {"estimate": step["room"]["peak"], "peak": step["peak_memory_gib"] * 2**30}


def _sent(act: Callable[[dict[str, Any]], dict[str, Any]], plain: dict[str, Any], sender: Any) -> None:
    import torch

    torch.set_num_threads(1)
    sender.send(act(plain))


def apart(act: Callable[[dict[str, Any]], dict[str, Any]], plain: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own, with a cache of its own, has sent."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as home:
        os.environ["TURNSMITH_HOME"] = home
        process = context.Process(target=_sent, args=(act, plain, sender))
        process.start()
        sender.close()
        found: dict[str, Any] = receiver.recv()
        process.join()
    return found


def made(place: Path, hidden: int, layers: int) -> Path:
    """The directory of a Llama of this size."""
    from turnsmith import testing

    testing.model(vocabulary=VOCABULARY, layers=layers, hidden=hidden).save_pretrained(place)
    testing.tokenizer().save_pretrained(place)
    return place


def chats(place: Path, row: int) -> Path:
    """A file of conversations of more than a row's tokens."""
    words = " ".join(map(str, range(row)))
    chats = ((f"Count to {n}.", f"{n} {words}") for n in range(8))
    turns = ([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in chats)
    place.write_text("".join(json.dumps({"id": str(n), "messages": m}) + "\n" for n, m in enumerate(turns)))
    return place


def main() -> int:
    """Measure all combinations and print a row of JSON for each."""
    from turnsmith.models.locate import locate

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="made")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--row", type=int, default=512)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ways", nargs="*", default=WAYS)
    asked = parser.parse_args()
    off = 0
    with tempfile.TemporaryDirectory() as place:
        own = asked.base == "made"
        base = made(Path(place, "base"), asked.hidden, asked.layers) if own else locate(asked.base)
        data = chats(Path(place, "chats.jsonl"), asked.row)
        for way in asked.ways:
            plain = recipe(base, data, way, asked.row, asked.dtype)
            found = {"base": asked.base, "way": way, **apart(checked, plain), **apart(trained, plain)}
            for name in ("check", "estimate"):
                found[f"{name}_off"] = found[name] / found["peak"] - 1
                off += abs(found[f"{name}_off"]) > ALLOWED
            print(json.dumps(found), flush=True)
    return int(off > 0)


if __name__ == "__main__":
    raise SystemExit(main())
