"""Who may come in: keys with roles, and how often each may ask."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from turnsmith.serve.refusals import Refused
from turnsmith.serve.store.keys import ROLES, Known, digest, known
from turnsmith.serve.store.tables import Role
from turnsmith.serve.store.writing import Store

FRESH = 2.0  # seconds after which keys are looked up anew: a key that was ended opens nothing after them
COUNTED = 10_000  # people whose rate is remembered; who has not asked for longest is forgotten
OPEN = Known("", "admin")  # who asks where there are no keys: a server on its own machine


@dataclass
class Rate:
    """At most `most` requests in a minute from each name, as many at once after a pause; 0 is no limit."""

    most: int = 0
    _left: OrderedDict[str, tuple[float, float]] = field(
        default_factory=OrderedDict[str, tuple[float, float]]
    )

    def take(self, name: str, now: float) -> float:
        """A request of `name` at `now` seconds: how many seconds it comes too early; 0 where it may pass."""
        if not self.most:
            return 0.0
        left, before = self._left.pop(name, (float(self.most), now))
        left = min(self.most, left + (now - before) * self.most / 60)
        self._left[name] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > COUNTED:
            self._left.popitem(last=False)
        return 0.0 if left >= 1 else (1 - left) * 60 / self.most


class Doors:
    """Lets in who has a key; anyone, as admin, where there is none and `alone` says that only this machine
    can ask: a network stays shut when the last key has ended."""

    def __init__(self, store: Store | None, rate: Rate, *, alone: bool) -> None:
        self._store, self._rate, self._alone = store, rate, alone
        self._known: dict[str, Known] = {}
        self._looked = -math.inf

    async def let_in(self, request: Request, role: Role = "user") -> Known:
        """Who asks. Raises Refused without a key that opens this, and where they ask too often."""
        keys = await self._keys()
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        asking = keys.get(digest(given)) if keys or not self._alone else OPEN
        if asking is None:
            raise Refused(
                401, "the key is not known: send it as Authorization: Bearer KEY", code="invalid_api_key"
            )
        if ROLES.index(asking.role) < ROLES.index(role):
            raise Refused(403, f"this is for {role}s, and the key {asking.name!r} is a {asking.role}'s")
        early = self._rate.take(asking.name, time.monotonic())
        if early:
            raise Refused(
                429,
                f"more than {self._rate.most} requests in a minute: try again in {math.ceil(early)} s",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                again=math.ceil(early),
            )
        return asking

    async def _keys(self) -> dict[str, Known]:
        if self._store and time.monotonic() > self._looked + FRESH:
            self._known = await asyncio.to_thread(self._store.read, known)
            self._looked = time.monotonic()
        return self._known


async def _user(request: Request) -> Known:
    return await request.app.state.doors.let_in(request)


async def _annotator(request: Request) -> Known:
    return await request.app.state.doors.let_in(request, "annotator")


async def _admin(request: Request) -> Known:
    return await request.app.state.doors.let_in(request, "admin")


# Who asks, in the signature of a route that is for all, for annotators, and for admins.
Asking = Annotated[Known, Depends(_user)]
Annotator = Annotated[Known, Depends(_annotator)]
Admin = Annotated[Known, Depends(_admin)]
