"""Data are taken once, without what concerns people, and it is known whose words they are."""

import json

import pytest

from turnsmith.errors import UsageError
from turnsmith.serve.store import erasing, judging, people, talks
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.taking import new, take
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.types import Conversation
from turnsmith.types import Message as Said


def fill(
    store, name="Annabel", consent=True, text="An inlet.", question="I am Annabel, ann@example.org. Fjords?"
):
    who = Who("", name)

    def keep(session):
        people.consented(session, who, consent)
        asked = Conversation((Said("user", question),))
        talks.begun(session, who, asked, Made("tiny"), ids=[f"r-{name}"], writer=None)
        talks.ended(session, f"r-{name}", Ended(Said("assistant", text), "stop", 1.0))
        person = talks.person(session, who)
        judging.judge(session, person, f"r-{name}", [Judged("vote", value=1)], all_trees=False)
        return person

    return store.write(keep).result()


def test_what_concerns_people_is_taken_out_unless_it_is_wanted(store, tmp_path):
    fill(store)
    done = take(store, "sft", tmp_path / "a.jsonl")
    (row,) = map(json.loads, (tmp_path / "a.jsonl").read_text("utf-8").splitlines())
    assert row["messages"][0]["content"] == "I am [NAME_1], [EMAIL_1]. Fjords?"
    assert (done.rows, done.people, dict(done.scrubbed)) == (1, 1, {"name": 1, "email": 1})
    take(store, "sft", tmp_path / "b.jsonl", scrub=False)
    assert "ann@example.org" in (tmp_path / "b.jsonl").read_text("utf-8")


def test_who_is_deleted_is_told_which_files_have_their_words(store, tmp_path):
    ann = fill(store)
    bob = fill(store, "bob")
    take(store, "sft", tmp_path / "a.jsonl")
    receipt = store.write(lambda s: erasing.erased(s, ann)).result()
    assert receipt["files"] == [str(tmp_path / "a.jsonl")]
    take(store, "sft", tmp_path / "b.jsonl")
    assert len((tmp_path / "b.jsonl").read_text("utf-8").splitlines()) == 1
    receipt = store.write(lambda s: erasing.erased(s, bob)).result()
    assert receipt["files"] == [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]


def test_only_what_is_new_is_taken_where_that_is_wanted(store, tmp_path):
    fill(store)
    take(store, "sft", tmp_path / "a.jsonl")
    assert store.read(new) == {"rankings": 0, "messages": 0}
    with pytest.raises(UsageError, match=r"nothing to take as sft: nobody has judged anything, or not since"):
        take(store, "sft", tmp_path / "b.jsonl", fresh_only=True)
    fill(store, "bob")
    assert store.read(new) == {"vote": 1, "rankings": 0, "messages": 1}
    assert take(store, "sft", tmp_path / "b.jsonl", fresh_only=True).rows == 1


def test_nothing_is_written_over_and_what_is_missing_is_said(store, tmp_path):
    fill(store, consent=None)
    with pytest.raises(
        UsageError, match=r"1 conversations of people who did not consent\).*--consent assumed"
    ):
        take(store, "sft", tmp_path / "a.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    take(store, "sft", tmp_path / "a.jsonl", consent="assumed")
    with pytest.raises(UsageError, match="is there already"):
        take(store, "sft", tmp_path / "a.jsonl", consent="assumed")
    with pytest.raises(UsageError, match="1 conversations with nothing of this kind"):
        take(store, "rankings", tmp_path / "b.jsonl", consent="assumed")
