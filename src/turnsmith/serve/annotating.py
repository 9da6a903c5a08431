"""Trees that annotators grow: a task for who asks, and what they did of it."""

from __future__ import annotations

from random import Random
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field
from sqlalchemy.orm import Session

from turnsmith.serve.doors import Admin, Annotator
from turnsmith.serve.feedback import Named, Sent
from turnsmith.serve.growing import Rules
from turnsmith.serve.keeping import Keeping
from turnsmith.serve.store import collecting, talks
from turnsmith.serve.store.talks import Who


class TreeSent(Sent):
    """POST /v1/trees: the first message of a tree. language: its ISO 639-1 code."""

    text: str
    language: Annotated[str, Field(min_length=2, max_length=8)] | None = None


class ReplySent(Sent):
    """POST /v1/messages/ID/replies."""

    text: str


class ReviewSent(Sent):
    """POST /v1/messages/ID/review: how good a message is, from 0 to 1."""

    score: Annotated[float, Field(ge=0, le=1)]


def routes(keeping: Keeping, rules: Rules) -> APIRouter:
    """The routes. Rankings go to the message that was answered, as all rankings do."""
    made = APIRouter(prefix="/v1", tags=["trees"])
    rng = Random()  # which of several tasks somebody is given need not come out the same again

    @made.post("/trees")
    async def plant(sent: TreeSent, asking: Annotator) -> dict[str, Any]:
        def keep(session: Session) -> str:
            person = talks.person(session, Who(asking.name, sent.user))
            return collecting.planted(session, person, sent.text, sent.language)

        return {"tree": await keeping.done(keep)}

    @made.post("/trees/{id}/{what}")
    async def moderate(id: str, what: Literal["halt", "start", "retry"], asking: Admin) -> dict[str, Any]:
        return {"state": await keeping.done(lambda s: collecting.moderated(s, id, what, rules))}

    @made.get("/task")
    async def task(asking: Annotator, user: Named = "") -> dict[str, Any]:
        person = await keeping.done(lambda s: talks.person(s, Who(asking.name, user)))
        return {"task": await keeping.read(lambda s: collecting.task(s, person, rules, rng))}

    @made.post("/messages/{id}/replies")
    async def reply(id: str, sent: ReplySent, asking: Annotator) -> dict[str, Any]:
        def keep(session: Session) -> str:
            person = talks.person(session, Who(asking.name, sent.user))
            return collecting.replied(session, person, id, sent.text, rules)

        return {"message": await keeping.done(keep)}

    @made.post("/messages/{id}/review")
    async def review(id: str, sent: ReviewSent, asking: Annotator) -> dict[str, Any]:
        def keep(session: Session) -> None:
            person = talks.person(session, Who(asking.name, sent.user))
            collecting.reviewed(session, person, id, sent.score, rules)

        await keeping.done(keep)
        return {"message": id}

    return made
