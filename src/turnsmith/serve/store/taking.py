"""Training data taken out of the store into a file, and the record of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from turnsmith.data.scrub import Scrubber
from turnsmith.errors import UsageError
from turnsmith.serve.store.gathering import Consent, Gathered, Kind, gathered
from turnsmith.serve.store.tables import Judgement, Person, Ranking, Taken, Whose, fresh
from turnsmith.serve.store.writing import Store
from turnsmith.shelf import writing

# What rows have beside texts.
NO_TEXTS = frozenset(
    ("id", "tree", "model", "role", "message_id", "parent_id", "message_tree_id", "tree_state", "model_name")
)


@dataclass(frozen=True, slots=True)
class Done:
    """What was taken. left: conversations that were left out, by reason. scrubbed: what concerned people and
    was taken out, by kind."""

    file: Path
    rows: int
    people: int
    left: Mapping[str, int]
    scrubbed: Mapping[str, int]


def take(
    store: Store,
    kind: Kind,
    file: Path,
    *,
    consent: Consent = "given",
    scrub: bool = True,
    fresh_only: bool = False,
) -> Done:
    """Write rows of this kind into `file`, and keep whose words are in it, so that who wishes to be forgotten
    is told. fresh_only: only what was judged since this kind was taken last. Raises UsageError where there is
    nothing to take, and where the file is there already."""
    if file.exists():
        raise UsageError(
            f"{file} is there already: choose another name, since what was taken stays as it was"
        )
    since = store.read(lambda s: last(s, kind)) if fresh_only else 0.0
    found = store.read(lambda s: gathered(s, kind, consent=consent, since=since))
    left = {reason: count for reason, count in found.left.items() if count}
    if not found.rows:
        raise UsageError(f"{store.name} has nothing to take as {kind}{_why(left)}")
    scrubbed: Counter[str] = Counter()
    names = store.read(lambda s: _names(s, found)) if scrub else []
    with writing(file), file.open("x", encoding="utf-8") as opened:
        for row in found.rows:
            scrubber = Scrubber(names, scrubbed, NO_TEXTS)
            kept = scrubber.json(row) if scrub else row
            opened.write(json.dumps(kept, ensure_ascii=False) + "\n")
    store.write(lambda s: _recorded(s, kind, file, found)).result()
    return Done(file, len(found.rows), len(found.people), left, dict(scrubbed))


def last(session: Session, kind: Kind) -> float:
    """Until when judgements stand in what was taken of this kind; 0 where nothing was."""
    asked = select(Taken.until).where(Taken.kind == kind).order_by(Taken.until.desc())
    return session.scalar(asked.limit(1)) or 0.0


def new(session: Session) -> dict[str, int]:
    """How much was judged since data were taken last, of any kind: judgements by kind, rankings, and how many
    messages they are about."""
    since = session.scalar(select(func.max(Taken.until))) or 0.0
    counts = Counter(session.scalars(select(Judgement.kind).where(Judgement.since > since)))
    judged = session.scalars(select(Judgement.message).where(Judgement.since > since))
    ranked = session.scalars(select(Ranking.message).where(Ranking.since > since)).all()
    return {**counts, "rankings": len(ranked), "messages": len({*judged, *ranked})}


def _why(left: Mapping[str, int]) -> str:
    if not left:
        return ": nobody has judged anything, or not since it was taken last"
    told = "; ".join(f"{count} {reason}" for reason, count in left.items())
    asked = "PUT /v1/people/me/consent says yes for who is asked, and --consent assumed takes who was not"
    return f" ({told}). {asked if 'conversations of people who did not consent' in left else ''}".rstrip()


def _names(session: Session, found: Gathered) -> list[str]:
    """What the people are called whose words these are."""
    names = select(Person.name).where(Person.id.in_(found.people))
    return sorted({name for name in session.scalars(names) if name}, key=len, reverse=True)


def _recorded(session: Session, kind: Kind, file: Path, found: Gathered) -> None:
    """Keep that this was taken; whoever was deleted meanwhile is in the file, and not here any more."""
    row = {"id": fresh(), "file": str(file.resolve()), "kind": kind, "rows": len(found.rows)}
    session.execute(insert(Taken).values(**row, until=found.until, since=time.time()))
    there = session.scalars(select(Person.id).where(Person.id.in_(found.people)))
    whose = [{"taken": row["id"], "person": person} for person in there]
    if whose:
        session.execute(insert(Whose), whose)
