"""Pieces of all replies under way are written together, and again where the database was away."""

import asyncio

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from turnsmith.errors import StorageError
from turnsmith.serve.keeping import Keeping
from turnsmith.serve.store.tables import Message, Piece
from turnsmith.serve.store.talks import Made, Who
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

ASKED = Conversation((Said("user", "Hi"),))


def pieces(store):
    asked = select(Piece.message, Piece.number, Piece.text).order_by(Piece.message, Piece.number)
    return store.read(lambda s: s.execute(asked).all())


async def told(keeping, count):
    """As many replies, each in three pieces, all at once; their ids."""
    kept = await keeping.begun(Who(), [ASKED] * count, Made("tiny"))

    async def one(number):
        for text in ("a", "b", "c"):
            await kept.piece(number, text)

    await asyncio.gather(*map(one, range(count)))
    return kept.ids


def test_pieces_of_many_are_few_transactions(store):
    commits = []
    event.listen(store.engine, "commit", commits.append)
    ids = asyncio.run(told(Keeping(store), 40))
    assert pieces(store) == [(id, number, text) for id in sorted(ids) for number, text in enumerate("abc")]
    assert len(commits) < 40  # one after the other they would be 121


def test_what_failed_once_is_written_again_whole(store):
    failures = iter([True] * 3)

    def fail(connection):
        if next(failures, False):
            raise OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)

    async def all_of_it():
        keeping = Keeping(store)
        kept = await keeping.begun(Who(), [ASKED], Made("tiny"))
        event.listen(store.engine, "commit", fail)
        await asyncio.gather(*(kept.piece(0, text) for text in "abc"))
        return kept.ids[0]

    id = asyncio.run(all_of_it())
    assert next(failures, None) is None
    assert [(number, text) for one, number, text in pieces(store) if one == id] == list(enumerate("abc"))


def test_who_waits_too_long_is_told_and_it_is_written_all_the_same(postgresql, make_store):
    store = make_store(postgresql.fresh())
    keeping = Keeping(store, patience=0.2)
    postgresql.stop()
    try:
        with pytest.raises(
            StorageError, match=r"does not answer.*nothing can be kept, so nothing is answered"
        ):
            asyncio.run(told(keeping, 1))
    finally:
        postgresql.start()
    store.write(lambda s: None).result(timeout=15)
    states = store.read(lambda s: s.execute(select(Message.role, Message.state)).all())
    assert sorted(states) == [("assistant", "cancelled"), ("user", "whole")]
