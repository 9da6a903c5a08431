"""What people send back: judgements, rankings, consent, and the wish to be forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from turnsmith.serve.doors import Admin, Asking
from turnsmith.serve.growing import Rules
from turnsmith.serve.keeping import Keeping
from turnsmith.serve.monitor import monitored
from turnsmith.serve.refusals import Refused
from turnsmith.serve.store import collecting, erasing, judging, people, reading, talks, traffic
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.keys import Known
from turnsmith.serve.store.talks import LONGEST, Who

User = Annotated[str, Field(max_length=LONGEST)]
Named = Annotated[str, Query(alias="user", max_length=LONGEST)]
CRITERIA = ("helpful", "correct", "harmless")  # of scales, where `serve` is told no others


class Sent(BaseModel):
    """What a request says. user: on whose behalf, of those who use the same key."""

    model_config = ConfigDict(extra="forbid")

    user: User = ""


class JudgementSent(BaseModel):
    """A vote, a scale, a label, a corrected reply or a comment."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    name: str = ""
    value: float | None = None
    text: str | None = None


class JudgementsSent(Sent):
    """POST /v1/messages/ID/judgements."""

    judgements: Annotated[list[JudgementSent], Field(min_length=1, max_length=50)]


class RankingSent(Sent):
    """PUT /v1/messages/ID/ranking. order: replies, best first; equal ones in a list."""

    order: Annotated[list[str | list[str]], Field(min_length=1, max_length=100)]
    blind: bool = False


class ConsentSent(Sent):
    """PUT /v1/people/me/consent."""

    consent: bool | None


def routes(keeping: Keeping, criteria: Sequence[str], rules: Rules) -> APIRouter:
    """The routes. criteria: those of scales, all else is refused. rules: of trees that people grow."""
    made = APIRouter(prefix="/v1", tags=["feedback"])

    @made.get("/criteria")
    async def scales(asking: Asking) -> dict[str, Any]:
        return {"object": "list", "data": list(criteria)}

    @made.post("/messages/{id}/judgements")
    async def judge(id: str, sent: JudgementsSent, asking: Asking) -> dict[str, Any]:
        judged = [Judged(**one.model_dump()) for one in sent.judgements]
        for one in judged:
            if one.kind == "scale" and one.name not in criteria:
                there = ", ".join(criteria)
                raise Refused(400, f"no scale {one.name!r:.60}: there are {there}", param="judgements")
        who, all_trees = Who(asking.name, sent.user), asking.role != "user"

        def keep(session: Session) -> None:
            judging.judge(session, talks.person(session, who), id, judged, all_trees=all_trees)

        await keeping.done(keep)
        return {"message": id, "judgements": len(judged)}

    @made.put("/messages/{id}/ranking")
    async def rank(id: str, sent: RankingSent, asking: Asking) -> dict[str, Any]:
        order = [[one] if isinstance(one, str) else one for one in sent.order]
        who, all_trees = Who(asking.name, sent.user), asking.role != "user"

        def keep(session: Session) -> None:
            person = talks.person(session, who)
            if asking.role != "user" and collecting.grows(session, id):
                collecting.ranked(session, person, id, order, rules)
            else:
                judging.rank(session, person, id, order, blind=sent.blind, all_trees=all_trees)

        await keeping.done(keep)
        return {"message": id, "order": order}

    @made.get("/conversations")
    async def conversations(
        asking: Asking,
        user: Named = "",
        limit: Annotated[int, Query(ge=1, le=reading.MOST)] = 20,
        before: float | None = None,
        tag: Annotated[str | None, Query(max_length=LONGEST)] = None,
        mine: bool = False,
    ) -> dict[str, Any]:
        tag = None if tag is None else talks.storable(tag, "tag")
        whose = await _whose(keeping, asking, user, mine=mine)
        found = await keeping.read(lambda s: reading.listed(s, whose, most=limit, before=before, tag=tag))
        return {"object": "list", "data": found}

    @made.get("/conversations/{id}")
    async def conversation(id: str, asking: Asking, user: Named = "") -> dict[str, Any]:
        whose = await _whose(keeping, asking, user)
        return await keeping.read(lambda s: reading.tree(s, id, whose))

    @made.get("/people/me")
    async def me(asking: Asking, user: Named = "") -> dict[str, Any]:
        return await keeping.done(lambda s: people.about(s, Who(asking.name, user)))

    @made.put("/people/me/consent")
    async def consent(sent: ConsentSent, asking: Asking) -> dict[str, Any]:
        return await keeping.done(lambda s: people.consented(s, Who(asking.name, sent.user), sent.consent))

    @made.delete("/people/me")
    async def forget(asking: Asking, user: Named = "") -> dict[str, Any]:
        return await keeping.done(lambda s: erasing.erased(s, talks.person(s, Who(asking.name, user))))

    @made.get("/monitor")
    async def monitor(
        asking: Admin,
        model: str | None = None,
        hours: Annotated[float, Query(ge=0.1, le=24 * 366)] = 24.0,
    ) -> dict[str, Any]:
        found = await keeping.read(lambda s: traffic.turns(s, model=model))
        return asdict(await asyncio.to_thread(monitored, found, window_seconds=3600 * hours))

    @made.delete("/people/{id}")
    async def erase(id: str, asking: Admin) -> dict[str, Any]:
        return await keeping.done(lambda s: erasing.erased(s, id))

    @made.get("/people/{id}/receipts")
    async def receipts(id: str, asking: Asking) -> dict[str, Any]:
        return {"object": "list", "data": await keeping.read(lambda s: erasing.receipts(s, id))}

    return made


async def _whose(keeping: Keeping, asking: Known, user: str, *, mine: bool = False) -> str | None:
    """Whose conversations who asks may see: anybody's, for annotators and admins who name nobody and do not
    ask for their own."""
    if asking.role != "user" and not user and not mine:
        return None
    return await keeping.done(lambda s: talks.person(s, Who(asking.name, user)))
