"""One thread writes; what fails fails alone, and a database that is away is waited for."""

import sqlite3
import time

import pytest
from sqlalchemy import insert, select, text

from turnsmith.errors import StorageError, UsageError
from turnsmith.serve.store.opening import located, opened
from turnsmith.serve.store.tables import Message, Person, Piece, Table, Tree, Writer
from turnsmith.serve.store.writing import Store


def person(name):
    return lambda s: s.execute(insert(Person).values(key="", name=name, since=1.0)) and name


def names(store):
    return store.read(lambda s: s.scalars(select(Person.name).order_by(Person.name)).all())


def test_all_that_was_written_is_there_in_its_order(store):
    given = [store.write(person(f"n{number:03}")) for number in range(300)]
    assert [one.result() for one in given] == [f"n{number:03}" for number in range(300)]
    assert names(store) == [f"n{number:03}" for number in range(300)]


def test_what_fails_fails_alone(store):
    given = [store.write(person(name)) for name in ("a", "b", "a", "c")]
    assert [one.exception() is None for one in given] == [True, True, False, True]
    assert names(store) == ["a", "b", "c"]


def test_what_waits_is_written_before_it_closes(url):
    store = Store(url)
    given = [store.write(person(str(number))) for number in range(50)]
    store.close()
    assert [one.result() for one in given] == [str(number) for number in range(50)]
    with pytest.raises(StorageError, match="closed"):
        store.write(person("late"))
    again = Store(url)
    assert len(names(again)) == 50
    again.close()


def test_a_database_that_is_locked_is_waited_for(tmp_path):
    store = Store(str(tmp_path / "a.db"))
    store.engine.pool.dispose()
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    given = store.write(lambda s: (s.execute(text("PRAGMA busy_timeout=1")), person("a")(s))[1])
    with pytest.raises(TimeoutError):
        given.result(timeout=0.3)
    other.execute("COMMIT")
    assert given.result(timeout=15) == "a"
    assert store.away is None
    other.close()
    store.close()


def test_a_server_that_goes_and_comes_back_loses_nothing(postgresql):
    store = Store(postgresql.fresh())
    assert store.write(person("a")).result() == "a"
    postgresql.stop()
    try:
        given = store.write(person("b"))
        with pytest.raises(TimeoutError):
            given.result(timeout=0.5)
        assert "does not answer" in store.away
        with pytest.raises(StorageError, match=r"the database postgresql.* does not answer"):
            names(store)
    finally:
        postgresql.start()
    assert given.result(timeout=15) == "b"
    assert names(store) == ["a", "b"]
    store.close()


def test_a_process_that_died_leaves_what_had_come(url):
    dead = Store(url)
    person_id = "p"

    def half(session):
        session.execute(insert(Person).values(id=person_id, key="", name="", since=1.0))
        session.execute(insert(Tree).values(id="t", person=person_id, tools=[], since=1.0))
        row = {
            "id": "m",
            "tree": "t",
            "digest": "0",
            "role": "assistant",
            "content": "",
            "more": {},
            "made": {},
        }
        session.execute(insert(Message).values(**row, since=1.0, state="coming", writer=dead.id))
        session.execute(
            insert(Piece), [{"message": "m", "number": n, "text": t} for n, t in enumerate("An ")]
        )

    dead.write(half).result()
    dead._beaten = time.time() + 60  # it says no more that it is there
    living = Store(url, beat=0.1, stale=0.3)
    deadline = time.time() + 10
    state = ("", "coming")
    while state[1] == "coming" and time.time() < deadline:
        time.sleep(0.05)
        state = tuple(living.read(lambda s: s.execute(select(Message.content, Message.state)).one()))
    assert state == ("An ", "cut")
    assert living.read(lambda s: s.scalars(select(Writer.id)).all()) == [living.id]
    dead.close()
    living.close()


def test_what_a_living_process_draws_is_left_to_it(url):
    one, other = Store(url, beat=0.05, stale=5.0), Store(url, beat=0.05, stale=5.0)

    def half(session):
        session.execute(insert(Person).values(id="p", key="", name="", since=1.0))
        session.execute(insert(Tree).values(id="t", person="p", tools=[], since=1.0))
        row = {
            "id": "m",
            "tree": "t",
            "digest": "0",
            "role": "assistant",
            "content": "",
            "more": {},
            "made": {},
        }
        session.execute(insert(Message).values(**row, since=1.0, state="coming", writer=one.id))

    one.write(half).result()
    time.sleep(0.3)
    assert other.read(lambda s: s.scalar(select(Message.state))) == "coming"
    one.close()
    other.close()


def test_the_steps_give_the_tables_that_the_code_has(url):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = opened(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


def test_a_url_that_cannot_be_meant_is_refused():
    with pytest.raises(UsageError, match="SQLite and PostgreSQL"):
        located("mysql://me:secret@host/db")
    with pytest.raises(UsageError, match="give a path"):
        located("://")


def test_a_place_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"nowhere/a\.db does not answer: unable to open"):
        Store(str(tmp_path / "nowhere" / "a.db"))


def test_a_password_is_never_shown():
    with pytest.raises(UsageError) as raised:
        located("mysql://me:secret@host/db")
    assert "secret" not in str(raised.value)
