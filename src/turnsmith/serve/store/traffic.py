"""Replies that were served, as what watches them reads them."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from turnsmith.serve.monitor import Turn
from turnsmith.serve.store.tables import Judgement, Message

MIDDLE, REACH = 3.0, 2.0  # of scales from 1 to 5; a vote stands for an end of them


def turns(session: Session, *, model: str | None = None, since: float = 0.0) -> list[Turn]:
    """Replies of one model, or of all, after a time, the oldest first; what was cancelled is none. The rating
    is the mean of all scales, and of votes where nobody used a scale."""
    asked = aliased(Message)
    columns = select(
        Message.id, Message.since, Message.model, asked.content, Message.content, Message.ids, Message.finish
    )
    wanted = (Message.model.is_not(None), Message.state == "whole", Message.deleted.is_(False))
    found = columns.join(asked, asked.id == Message.parent).where(*wanted, Message.since > since)
    found = found if model is None else found.where(Message.model == model)
    ratings = _ratings(session, since)
    return [
        Turn(at, str(name), prompt, reply, len(ids or reply.split()), finish or "stop", ratings.get(id))
        for id, at, name, prompt, reply, ids, finish in session.execute(found.order_by(Message.since))
    ]


def _ratings(session: Session, since: float) -> Mapping[str, float]:
    """By message, from 1 to 5."""
    columns = select(Judgement.message, Judgement.kind, Judgement.value)
    of = columns.join(Message, Message.id == Judgement.message).where(Message.since > since)
    found: dict[str, dict[str, list[float]]] = {}
    for message, kind, value in session.execute(of.where(Judgement.kind.in_(("scale", "vote")))):
        if value is not None:
            mapped = value if kind == "scale" else MIDDLE + REACH * value
            found.setdefault(message, {}).setdefault(kind, []).append(mapped)
    return {message: fmean(by.get("scale") or by["vote"]) for message, by in found.items()}
