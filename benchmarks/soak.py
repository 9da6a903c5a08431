"""A process that samples without end, for `sample.py --memory`: what it holds after each call. Linux only.

How many prompts a call has, how long they are and how long replies may be is drawn for each. The first call,
which is not counted, has the most and the longest.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from prompts import Job, Prompts


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Sample for so many minutes. seconds and mib: when each call had ended, and what was then held."""
    from samplers import turnsmith

    asked: dict[str, Any] = json.loads(arguments[1])
    job, random = Job(**asked["job"]), Random(0)
    work = job.work()
    pool = [prompt for prompts in work.calls for prompt in prompts]
    side = turnsmith(job, work.stop)
    side.generate(sorted(pool, key=len)[-job.rows :], job.new)
    started, seconds, mib, tokens = time.perf_counter(), list[float](), list[float](), 0
    while not seconds or seconds[-1] < 60 * asked["minutes"]:
        made = side.generate(drawn(pool, job.rows, random), random.randint(1, job.new))
        tokens += sum(map(len, made))
        seconds.append(time.perf_counter() - started)
        mib.append(held())
    return {"seconds": seconds, "mib": mib, "tokens": tokens}


def drawn(pool: Prompts, rows: int, random: Random) -> Prompts:
    """Up to so many of the prompts, each cut to a length of its own."""
    chosen = random.sample(pool, random.randint(1, rows))
    return [prompt[-random.randint(1, len(prompt)) :] for prompt in chosen]


def held() -> float:
    """MiB of main memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    print("\n" + json.dumps(main(sys.argv)))
