"""Runs for people to watch: which there are, how far they have come, what they found, and their pages."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from turnsmith.report import left, shown
from turnsmith.report.left import Left
from turnsmith.serve.doors import Annotator
from turnsmith.serve.refusals import Refused
from turnsmith.serve.store.judging import Absent

SEALED = 3600  # seconds after which an address with a seal may have changed; it opens as long again
MOST = 50  # examples in one answer
ALONE = {  # a page that was made elsewhere: it may show itself, and do nothing
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
WATCHED = {"Cache-Control": "private, no-cache"}


class Examples(Protocol):
    """Examples of a run's training, from number `start` on, counted from 0."""

    def __call__(self, run: Mapping[str, Any], step: str, *, start: int, count: int) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Runs:
    """Where runs are, and the shelf with what they made. examples: what their data are read by."""

    root: Path
    shelf: Path
    examples: Examples
    _secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def found(self, name: str) -> Left:
        """The run or comparison of this name. Raises Absent for what is not listed."""
        if one := left.runs(self.root).get(name):
            return one
        raise Absent(f"no run {name!r:.100} is in {self.root}")

    def address(self, one: Left) -> str | None:
        """Where its page is given to whoever has the address, which a frame cannot send a key with; it holds
        for an hour at least. None where it left no page."""
        if one.report is None:
            return None
        until = (int(time.time()) // SEALED + 2) * SEALED
        return f"/v1/runs/{quote(one.name)}/report?until={until}&seal={self._seal(one.name, until)}"

    def opens(self, name: str, until: int, seal: str) -> bool:
        """Whether such an address was given, and still holds."""
        return until >= time.time() and hmac.compare_digest(seal.encode(), self._seal(name, until).encode())

    def _seal(self, name: str, until: int) -> str:
        return hmac.new(self._secret, f"{until} {name}".encode(), hashlib.sha256).hexdigest()


def routes(runs: Runs) -> APIRouter:
    """The routes. Names of runs have slashes where runs lie in others' directories."""
    made = APIRouter(prefix="/v1", tags=["runs"])

    @made.get("/runs")
    async def listed(asking: Annotator) -> dict[str, Any]:
        return {"object": "list", "data": await asyncio.to_thread(_listed, runs)}

    @made.get("/runs/{name:path}/report")
    async def report(name: str, request: Request, until: int = 0, seal: str = "") -> Response:
        if not runs.opens(name, until, seal):
            await request.app.state.doors.let_in(request, "annotator")
        return await asyncio.to_thread(_page, runs, name)

    @made.get("/runs/{name:path}/curves")
    async def curves(name: str, request: Request, asking: Annotator) -> Response:
        return await asyncio.to_thread(_curves, runs, name, request.headers.get("If-None-Match", ""))

    @made.get("/runs/{name:path}")
    async def run(name: str, asking: Annotator) -> dict[str, Any]:
        return await asyncio.to_thread(_run, runs, name)

    @made.get("/comparisons/{name:path}")
    async def comparison(name: str, asking: Annotator) -> dict[str, Any]:
        return await asyncio.to_thread(_comparison, runs, name)

    @made.get("/data")
    async def data(
        run: str,
        asking: Annotator,
        step: str = "",
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=MOST)] = 10,
    ) -> dict[str, Any]:
        return await asyncio.to_thread(_data, runs, run, step, start, count)

    return made


def _listed(runs: Runs) -> list[dict[str, Any]]:
    found = [
        {**shown.head(one, runs.shelf), "report": one.report is not None}
        for one in left.runs(runs.root).values()
    ]
    return sorted(found, key=lambda row: (row["state"] != "running", -row["changed"]))


def _run(runs: Runs, name: str) -> dict[str, Any]:
    one = runs.found(name)
    return {**shown.whole(one, runs.shelf), "report": runs.address(one)}


def _comparison(runs: Runs, name: str) -> dict[str, Any]:
    one = runs.found(name)
    if one.kind != "comparison" or one.state == "running" or not one.told.get("methods"):
        raise Absent(f"{name} is no comparison that has ended")
    return {**shown.compared(one), "report": runs.address(one)}


def _page(runs: Runs, name: str) -> Response:
    file = runs.found(name).report
    if file is None:
        raise Absent(f"{name} has left no report: it does when it ends")
    return Response(file.read_bytes(), media_type="text/html; charset=utf-8", headers=ALONE)


def _curves(runs: Runs, name: str, known: str) -> Response:
    """The curves; nothing but a word where these are known by their tag already."""
    one = runs.found(name)
    tag = f'"{shown.stamp(one, runs.shelf)}"'
    if tag in (part.strip().removeprefix("W/") for part in known.split(",")):
        return Response(status_code=304, headers={"ETag": tag, **WATCHED})
    return JSONResponse(shown.curves(one, runs.shelf), headers={"ETag": tag, **WATCHED})


def _data(runs: Runs, name: str, step: str, start: int, count: int) -> dict[str, Any]:
    one = runs.found(name)
    trained = [str(one.get("name")) for one in left.steps(one.told, "train")]
    if one.state in ("running", "killed") or not trained:
        raise Absent(f"{name} has no examples to look at: a run has once a training of it has ended")
    if step and step not in trained:
        raise Refused(
            400, f"step: {name} has no training {step!r:.100}; it has {', '.join(trained)}", param="step"
        )
    found = runs.examples(one.told, step or trained[-1], start=start, count=count)
    return {"run": name, "steps": sorted(set(trained)), **found}
