"""A model under the name that it is asked by, and replies of it that begin together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from turnsmith.sample.chat import LocalChat
from turnsmith.serve.batching import Batching, Busy, Coming


@dataclass(frozen=True)
class Served:
    """A model under its name. made: seconds since 1970. weights, adapter: fingerprints, of the base and of
    what was tuned upon it. reader: what peft calls the adapter, where several are on one base in memory; ""
    for that base itself, None where there is nothing to choose."""

    name: str
    chat: LocalChat
    batching: Batching
    made: int = 0
    weights: str | None = None
    adapter: str | None = None
    reader: str | None = None


def begin(of: Served, wanted: list[dict[str, Any]]) -> list[Coming]:
    """All of these, or none."""
    coming: list[Coming] = []
    try:
        for one in wanted:
            coming.append(of.batching.ask(adapter=of.reader, **one))
    except Busy:
        for one in coming:
            one.cancel()
        raise
    return coming


def drawn(coming: list[Coming]) -> int:
    """Tokens of the replies that have ended."""
    return sum(len(one.completion.ids) for one in coming if one.completion)
