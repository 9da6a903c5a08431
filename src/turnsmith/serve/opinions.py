"""Ratings: which model people prefer, how strong each is by that, and how far people agree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from sqlalchemy.orm import Session

from turnsmith.evaluation.preferences import Compared, shares, strengths
from turnsmith.evaluation.raters import Level, agreement
from turnsmith.serve.doors import Annotator
from turnsmith.serve.keeping import Keeping
from turnsmith.serve.store import opinions
from turnsmith.serve.store.opinions import Mark

LEVEL = 0.95  # of every interval
LEVELS: Mapping[str, Level] = dict.fromkeys(("label", "scale", "review"), "interval")  # others are names


def routes(keeping: Keeping) -> APIRouter:
    """The routes."""
    made = APIRouter(prefix="/v1", tags=["ratings"])

    @made.get("/ratings")
    async def ratings(asking: Annotator, blind: bool = False) -> dict[str, Any]:
        found = await keeping.read(lambda s: _read(s, blind=blind))
        return await asyncio.to_thread(rated, *found)

    return made


def rated(
    preferences: Sequence[Compared], compared: Sequence[Compared], marks: Sequence[Mark]
) -> dict[str, Any]:
    """What is sent: `pairs`, both orders of each two models, `strengths`, and `agreement` by what was
    judged."""
    pairs = shares(compared, level=LEVEL)
    return {
        "level": LEVEL,
        "comparisons": len(compared),
        "messages": len({one.message for one in compared}),
        "people": len({one.person for one in compared}),
        "pairs": [
            {"first": first, "second": second, **asdict(share)} for (first, second), share in pairs.items()
        ],
        "strengths": [asdict(one) for one in strengths(compared, level=LEVEL)],
        "agreement": [*_preferred(preferences), *_marked(marks)],
    }


def _read(session: Session, *, blind: bool) -> tuple[list[Compared], list[Compared], list[Mark]]:
    found = opinions.preferences(session, blind=blind)
    return found, opinions.compared(session, found), opinions.marks(session)


def _preferred(preferences: Sequence[Compared]) -> list[dict[str, Any]]:
    """How far people agree on which of two replies is better."""
    judged: list[tuple[str, str, float]] = []
    for one in preferences:
        first, second = sorted((one.first, one.second))
        judged.append((f"{first} {second}", one.person, one.won if first == one.first else 1 - one.won))
    return [_told("preference", "", judged)] if judged else []


def _marked(marks: Sequence[Mark]) -> list[dict[str, Any]]:
    by: dict[tuple[str, str], list[tuple[str, str, float]]] = {}
    for one in marks:
        by.setdefault((one.kind, one.name), []).append((one.message, one.person, one.value))
    return [_told(kind, name, by[kind, name]) for kind, name in sorted(by)]


def _told(kind: str, name: str, judged: Sequence[tuple[str, str, float]]) -> dict[str, Any]:
    level = LEVELS.get(kind, "nominal")
    return {"kind": kind, "name": name, "level": level, **asdict(agreement(judged, level=level))}
