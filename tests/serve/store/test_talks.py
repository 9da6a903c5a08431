"""Conversations are kept as trees: what is known is found again, and nothing stands twice."""

import pytest
from sqlalchemy import func, select

from turnsmith.errors import DataError
from turnsmith.serve.store import recovering, talks
from turnsmith.serve.store.tables import Message, Person, Piece, Tree
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.types import Call, Conversation
from turnsmith.types import Message as Said

ASKED = Conversation((Said("system", "Be brief."), Said("user", "What is a fjord?")))
MADE = Made("tuned", "w1", "a1", "t1", {"temperature": 0.7}, 5)
ANN = Who("team", "ann")


def ask(store, conversation, *ids, who=ANN, tag=None):
    store.write(lambda s: talks.begun(s, who, conversation, MADE, ids=ids, writer=store.id, tag=tag)).result()


def end(store, id, text, **more):
    said = more.pop("said", Said("assistant", text, ids=(1, 2), logprobs=(-0.5, -0.25)))
    store.write(lambda s: talks.ended(s, id, Ended(said, "stop", 1.5, **more))).result()


def rows(store, *columns, of=Message):
    asked = select(*columns or [of]).order_by(of.since)
    return store.read(lambda s: s.execute(asked).all())


def count(store, table):
    return store.read(lambda s: s.scalar(select(func.count()).select_from(table)))


def test_a_reply_stands_under_what_was_asked_with_all_that_made_it(store):
    ask(store, ASKED, "r1")
    end(store, "r1", "An inlet.")
    found = {row.id: row for (row,) in rows(store)}
    reply = found["r1"]
    asked = found[reply.parent]
    first = found[asked.parent]
    assert (first.role, first.content, first.parent) == ("system", "Be brief.", None)
    assert (asked.role, asked.content, asked.model) == ("user", "What is a fjord?", None)
    assert (reply.content, reply.finish, reply.state, reply.seconds) == ("An inlet.", "stop", "whole", 1.5)
    assert (reply.model, reply.weights, reply.adapter, reply.template) == ("tuned", "w1", "a1", "t1")
    assert (reply.made, reply.seed) == ({"temperature": 0.7}, 5)
    assert (reply.ids, reply.logprobs) == ([1, 2], [-0.5, -0.25])
    assert asked.person is not None
    assert reply.person is None


def test_the_next_turn_goes_on_in_the_same_tree(store):
    ask(store, ASKED, "r1")
    end(store, "r1", "An inlet.")
    again = ASKED.then(Said("assistant", " An inlet.\n"), Said("user", "Name one."))
    ask(store, again, "r2")
    found = {row.id: row for (row,) in rows(store)}
    assert len(found) == 5
    assert found[found["r2"].parent].parent == "r1"
    assert count(store, Tree) == 1
    assert count(store, Person) == 1


def test_an_edited_question_is_a_branch_and_another_try_a_sibling(store):
    ask(store, ASKED, "r1", "r2")
    ask(store, ASKED, "r3")
    ask(store, Conversation((ASKED.messages[0], Said("user", "And a lake?"))), "r4")
    parents = dict(rows(store, Message.id, Message.parent))
    assert parents["r1"] == parents["r2"] == parents["r3"] != parents["r4"]
    assert parents[parents["r4"]] == parents[parents["r1"]]


def test_who_goes_on_after_one_of_two_equal_replies_goes_on_after_the_newest(store):
    ask(store, ASKED, "r1")
    ask(store, ASKED, "r2")
    for id in ("r1", "r2"):
        end(store, id, "An inlet.")
    ask(store, ASKED.then(Said("assistant", "An inlet."), Said("user", "Name one.")), "r3")
    parents = dict(rows(store, Message.id, Message.parent))
    assert parents[parents["r3"]] == "r2"


@pytest.mark.parametrize(
    "other",
    [{"who": Who("team", "bob")}, {"who": Who("others", "ann")}, {"tag": "second talk"}],
)
def test_what_another_says_or_another_conversation_is_a_tree_of_its_own(store, other):
    ask(store, ASKED, "r1")
    ask(store, ASKED, "r2", **other)
    assert count(store, Tree) == 2
    trees = dict(rows(store, Message.id, Message.tree))
    assert trees["r1"] != trees["r2"]


def test_other_tools_are_another_tree(store):
    tools = ({"type": "function", "function": {"name": "f"}},)
    ask(store, ASKED, "r1")
    ask(store, Conversation(ASKED.messages, tools), "r2")
    assert sorted(map(len, (tools for (tools,) in rows(store, Tree.tools, of=Tree)))) == [0, 1]


def test_a_call_is_found_again_whatever_its_id(store):
    ask(store, ASKED, "r1")
    end(store, "r1", "", said=Said("assistant", "", calls=(Call("f", {"a": 1}, "call_1"),)))
    told = Said("tool", "3", call_id="call_9")
    ask(store, ASKED.then(Said("assistant", "", calls=(Call("f", {"a": 1}, "call_9"),)), told), "r2")
    assert count(store, Message) == 5


def test_pieces_are_kept_as_they_come_and_give_way_to_the_whole(store):
    ask(store, ASKED, "r1")
    store.write(lambda s: talks.came(s, [("r1", 0, "An "), ("r1", 1, "in")])).result()
    assert count(store, Piece) == 2
    end(store, "r1", "An inlet.")
    assert count(store, Piece) == 0


def test_who_was_taken_for_dead_and_goes_on_loses_nothing(store):
    ask(store, ASKED, "r1")
    for number, text in enumerate(("An ", "inlet.")):
        store.write(lambda s, at=number, text=text: talks.came(s, [("r1", at, text)])).result()
        store.write(lambda s: recovering.end(s, "r1", state="cut")).result()
    assert ("r1", "An inlet.", "cut") in rows(store, Message.id, Message.content, Message.state)


def test_what_comes_for_a_deleted_reply_is_dropped(store):
    store.write(lambda s: talks.came(s, [("gone", 0, "An ")])).result()
    end(store, "gone", "An inlet.")
    assert count(store, Message) == 0


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_what_is_no_text_is_refused_and_marked_in_a_reply(store, text):
    with pytest.raises(DataError, match="NUL or half of a surrogate pair"):
        ask(store, Conversation((Said("user", text),)), "r1")
    assert count(store, Message) == 0
    ask(store, ASKED, "r2")
    end(store, "r2", text)
    assert ("r2", text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")) in rows(
        store, Message.id, Message.content
    )
