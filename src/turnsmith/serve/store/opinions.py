"""What people think of models: which reply each of them prefers, and how they judge the same message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from turnsmith.evaluation.preferences import Compared
from turnsmith.serve.store.tables import Judgement, Message, Ranking


class Mark(NamedTuple):
    """A vote, scale, label or review. name: the criterion of a scale or label."""

    kind: str
    name: str
    message: str
    person: str
    value: float


def preferences(session: Session, *, blind: bool = False) -> list[Compared]:
    """Of each two replies to a message which one is preferred, by everybody who ranked both, or else voted
    on both: equal votes are a tie. blind: rankings alone that were made with the names of the models hidden;
    who votes sees them."""
    rows = session.execute(select(Ranking.message, Ranking.person, Ranking.order, Ranking.blind)).all()
    ranked = [one for row in rows if row.blind or not blind for one in _ranked(*row[:3])]
    if blind:
        return ranked
    known = {(one.message, one.person, *sorted((one.first, one.second))) for one in ranked}
    votes = [(str(at), by, reply, float(value or 0)) for at, by, reply, value in session.execute(_VOTES)]
    voted = _voted(votes)
    return [*ranked, *(one for one in voted if (one.message, one.person, one.first, one.second) not in known)]


def compared(session: Session, found: Sequence[Compared]) -> list[Compared]:
    """The preferences between replies of different models, by the models; what was deleted counts no more."""
    there = (Message.model.is_not(None), Message.state == "whole", Message.deleted.is_(False))
    judged = Message.id.in_(select(Judgement.message)) | Message.parent.in_(select(Ranking.message))
    rows = session.execute(select(Message.id, Message.model).where(judged, *there)).all()
    models = {id: str(model) for id, model in rows}
    made: list[Compared] = []
    for one in found:
        first, second = models.get(one.first), models.get(one.second)
        if first and second and first != second:
            made.append(Compared(one.message, one.person, first, second, one.won))
    return made


def marks(session: Session) -> list[Mark]:
    """All judgements that are numbers."""
    columns = select(
        Judgement.kind, Judgement.name, Judgement.message, Judgement.person, Judgement.value
    ).join(Message, Message.id == Judgement.message)
    there = columns.where(Judgement.value.is_not(None), Message.deleted.is_(False))
    return [Mark(*row) for row in session.execute(there.order_by(Judgement.since))]


_VOTES = (
    select(Message.parent, Judgement.person, Message.id, Judgement.value)
    .join(Message, Message.id == Judgement.message)
    .where(Judgement.kind == "vote", Judgement.value.is_not(None), Message.parent.is_not(None))
    .order_by(Message.id)
)


def _ranked(message: str, person: str, order: Sequence[Sequence[str]]) -> Iterator[Compared]:
    places = {id: place for place, group in enumerate(order) for id in group}
    for one, other in combinations(places, 2):
        yield Compared(message, person, one, other, _won(-places[one], -places[other]))


def _voted(votes: Sequence[tuple[str, str, str, float]]) -> Iterator[Compared]:
    """votes: (message that was answered, person, reply, value)."""
    by: dict[tuple[str, str], dict[str, float]] = {}
    for message, person, reply, value in votes:
        by.setdefault((message, person), {})[reply] = value
    for (message, person), given in by.items():
        for one, other in combinations(sorted(given), 2):
            yield Compared(message, person, one, other, _won(given[one], given[other]))


def _won(one: float, other: float) -> float:
    return 0.5 if one == other else float(one > other)
