"""Clients of a server: how long each waits, how fast words come, and what the server holds.

    python benchmarks/serve.py [--model smollm2-135m-instruct] [--clients 8] [--rounds 5] [--tokens 64]

A server of its own is started with a store in a file. Each client holds a talk of `rounds` turns, a request
after the other, as a stream; the next turn sends all that was said. `first` is the time to the first piece
of a reply, `between` that between two pieces, in milliseconds over all replies; `rate` is tokens a second of
all clients together; `memory` is what the server held after one round and at the end, in MiB. Requests that
were refused, with their status, are counted. `made` is a Llama of two layers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2 as httpx

ASKED = ("What is a fjord?", "Name one.", "How deep is it?", "Who lives there?", "What do they eat?")
START = "import sys; from turnsmith.cli.main import main; main()"


@dataclass
class Seen:
    """What clients have seen. first, between: seconds. refused: by status."""

    first: list[float] = field(default_factory=list[float])
    between: list[float] = field(default_factory=list[float])
    tokens: int = 0
    refused: Counter[int] = field(default_factory=Counter[int])


async def asked(client: httpx.AsyncClient, url: str, body: dict[str, Any], seen: Seen) -> str:
    """One request; what was answered."""
    began, last, text = time.perf_counter(), 0.0, ""
    async with client.stream("POST", f"{url}/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            seen.refused[answer.status_code] += 1
            return ""
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            piece = json.loads(line.removeprefix("data: "))
            if usage := piece.get("usage"):
                seen.tokens += usage["completion_tokens"]
            for choice in piece["choices"]:
                if said := choice["delta"].get("content"):
                    now = time.perf_counter()
                    (seen.between if last else seen.first).append(now - (last or began))
                    last, text = now, text + said
    return text


async def talk(client: httpx.AsyncClient, url: str, name: str, rounds: int, tokens: int, seen: Seen) -> None:
    """One client's talk."""
    said: list[dict[str, str]] = [{"role": "system", "content": f"You talk to {name}."}]
    for number in range(rounds):
        said.append({"role": "user", "content": ASKED[number % len(ASKED)]})
        body = {"model": "served", "messages": said, "max_tokens": tokens, "user": name, "stream": True}
        text = await asked(client, url, {**body, "stream_options": {"include_usage": True}}, seen)
        said.append({"role": "assistant", "content": text or "..."})


async def crowd(url: str, clients: int, rounds: int, tokens: int) -> Seen:
    """All talks at once."""
    seen = Seen()
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(timeout=600, limits=limits) as client:
        names = [f"client {number}" for number in range(clients)]
        await asyncio.gather(*(talk(client, url, name, rounds, tokens, seen) for name in names))
    return seen


def held(process: int) -> float:
    """MiB that a process holds."""
    fields = Path(f"/proc/{process}/statm").read_text("ascii").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def percentiles(values: list[float]) -> dict[str, float]:
    """In milliseconds."""
    cuts = quantiles([1000 * value for value in values], n=100, method="inclusive")
    return {name: round(cuts[at - 1], 1) for name, at in (("p50", 50), ("p95", 95), ("p99", 99))}


def measure(model: str, clients: int, rounds: int, tokens: int, waiting: int) -> dict[str, Any]:
    """Start a server, ask it once, and then all at once."""
    with tempfile.TemporaryDirectory() as place:
        if model == "made":
            from turnsmith import testing

            model = str(testing.directory(Path(place) / "made"))
        command = [sys.executable, "-c", START, "serve", f"served={model}", "--port", "0"]
        command += ["--waiting", str(waiting), "--db", str(Path(place) / "talks.db")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                url = server.stdout.readline().split(", on ")[1].split(",")[0].strip()
                asyncio.run(crowd(url, clients, 1, tokens))
                before, began = held(server.pid), time.perf_counter()
                seen = asyncio.run(crowd(url, clients, rounds, tokens))
                seconds, after = time.perf_counter() - began, held(server.pid)
            finally:
                server.terminate()
    return {
        "clients": clients,
        "requests": clients * rounds,
        "refused": dict(seen.refused),
        "first": percentiles(seen.first),
        "between": percentiles(seen.between),
        "rate": round(seen.tokens / seconds, 1),
        "memory": [round(before), round(after)],
    }


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--waiting", type=int, default=256, help="requests that may wait for a row")
    given = parser.parse_args()
    print(
        json.dumps(measure(given.model, given.clients, given.rounds, given.tokens, given.waiting), indent=1)
    )


if __name__ == "__main__":
    main()
