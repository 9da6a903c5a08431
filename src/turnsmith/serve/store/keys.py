"""Keys that requests carry: made once, shown once, kept as a digest."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import get_args

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from turnsmith.errors import UsageError
from turnsmith.serve.store.tables import Key, Role, fresh
from turnsmith.serve.store.talks import LONGEST, storable

ROLES: tuple[Role, ...] = get_args(Role)
BYTES = 32  # of randomness: nobody guesses so much, so a plain digest is enough


@dataclass(frozen=True, slots=True)
class Known:
    """A key that opens something. name: of its owner."""

    name: str
    role: Role


def made(session: Session, name: str, role: str) -> str:
    """A new key, as it is to be sent. Raises UsageError for a name that is taken and an unknown role."""
    if role not in ROLES:
        raise UsageError(f"--role {role}: there are {', '.join(ROLES)}")
    if not 0 < len(storable(name, "the name")) <= LONGEST:
        raise UsageError(f"the name of a key has 1 to {LONGEST} characters")
    if session.scalar(select(Key.id).where(Key.name == name)):
        raise UsageError(f"a key {name!r} is there already: end it, or take another name")
    key = f"ts-{secrets.token_urlsafe(BYTES)}"
    row = {"id": fresh(), "name": name, "digest": digest(key), "role": role, "since": time.time()}
    session.execute(insert(Key).values(row))
    return key


def ended(session: Session, name: str) -> None:
    """From now on the key of this name opens nothing. Raises UsageError where there is none."""
    given = Key.name == name, Key.ended.is_(None)
    if session.scalar(select(Key.id).where(*given)) is None:
        raise UsageError(f"no key {name!r} is there that opens something")
    session.execute(update(Key).where(*given).values(ended=time.time()))


def known(session: Session) -> dict[str, Known]:
    """All keys that open something, by their digests."""
    found = session.scalars(select(Key).where(Key.ended.is_(None)))
    return {one.digest: Known(one.name, one.role) for one in found}


def digest(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
