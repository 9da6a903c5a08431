"""People: whether what they said may be trained on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from turnsmith.serve.store.tables import Person
from turnsmith.serve.store.talks import Who, person


def about(session: Session, who: Who) -> dict[str, Any]:
    """A person's id and consent; who is new is made known."""
    found = session.get_one(Person, person(session, who))
    return {"id": found.id, "name": found.name, "consent": found.consent, "since": found.since}


def consented(session: Session, who: Who, consent: bool | None) -> dict[str, Any]:
    """Keep whether what a person says may be trained on; None takes back what was said about it."""
    id = person(session, who)
    session.execute(update(Person).where(Person.id == id).values(consent=consent))
    session.expire_all()
    return about(session, who)
