"""Rows for training, as worked out by hand from small trees."""

import json
from collections import Counter

import pytest

from turnsmith.data import formats
from turnsmith.recipes import components
from turnsmith.serve.store import gathering, judging, people, talks
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

ANN, BOB, CAT = Who("", "ann"), Who("", "bob"), Who("", "cat")
ASKED = Conversation((Said("user", "What is a fjord?"),))


@pytest.fixture
def kept(store):
    return Kept(store)


class Kept:
    """A store with short ways to fill it."""

    def __init__(self, store):
        self.store = store
        self.do(lambda s: people.consented(s, ANN, True))

    def do(self, work):
        return self.store.write(work).result()

    def reply(self, id, text, conversation=ASKED, who=ANN, **more):
        made = Made("tiny")
        self.do(lambda s: talks.begun(s, who, conversation, made, ids=[id], writer=None))
        self.do(lambda s: talks.ended(s, id, Ended(Said("assistant", text), "stop", 1.0, **more)))

    def judge(self, id, *judged, who=ANN):
        def keep(session):
            judging.judge(session, talks.person(session, who), id, judged, all_trees=True)

        self.do(keep)

    def vote(self, id, value, who=ANN):
        self.judge(id, Judged("vote", value=value), who=who)

    def rank(self, *order, who=ANN):
        def keep(session):
            from turnsmith.serve.store.tables import Message

            parent = session.get_one(Message, order[0][0]).parent
            judging.rank(session, talks.person(session, who), parent, order, blind=False, all_trees=True)

        self.do(keep)

    def rows(self, kind, **more):
        return self.gathered(kind, **more).rows

    def gathered(self, kind, **more):
        return self.store.read(lambda s: gathering.gathered(s, kind, **more))


def texts(messages):
    return [(one["role"], one["content"], one.get("weight")) for one in messages]


def test_a_good_reply_is_a_thread_and_a_poor_one_is_none(kept):
    kept.reply("good", "An inlet.")
    kept.reply("poor", "A fish.")
    kept.vote("good", 1)
    kept.vote("poor", -1)
    (row,) = kept.rows("sft")
    assert texts(row["messages"]) == [
        ("user", "What is a fjord?", None), ("assistant", "An inlet.", None)
    ]  # fmt: skip
    assert (row["id"], row["model"]) == ("good", "tiny")


def test_each_good_reply_learns_once_and_others_weigh_nothing(kept):
    second = ASKED.then(Said("assistant", "An inlet."), Said("user", "Name one."))
    third = second.then(Said("assistant", "Oslo."), Said("user", "Sure?"))
    kept.reply("r1", "An inlet.")
    kept.reply("r2", "Oslo.", second)
    kept.reply("r3", "Geiranger.", third)
    kept.reply("r4", "Sognefjord.", second)
    for id in ("r1", "r3", "r4"):
        kept.vote(id, 1)
    rows = kept.rows("sft")
    assert [
        [weight for role, _, weight in texts(row["messages"]) if role == "assistant"] for row in rows
    ] == [
        [None, 0, None],  # r1 learns here, r2 was not judged, r3
        [0, None],  # r1 has learnt, r4
    ]


def test_a_correction_takes_the_place_of_what_it_corrects(kept):
    kept.reply("r", "A fish.")
    kept.judge("r", Judged("correction", text="An inlet."))
    (row,) = kept.rows("sft")
    assert texts(row["messages"])[-1] == ("assistant", "An inlet.", None)
    (pair,) = kept.rows("pairs")
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("An inlet.", "A fish.")
    assert [(row["messages"][-1]["content"], row["label"]) for row in kept.rows("kto")] == [
        ("A fish.", False), ("An inlet.", True)
    ]  # fmt: skip


def test_votes_and_scales_make_pairs_with_their_distance(kept):
    for id, text in (("a", "An inlet."), ("b", "A fish."), ("c", "A bay.")):
        kept.reply(id, text)
    kept.vote("a", 1)
    kept.vote("b", -1)
    kept.judge("c", Judged("scale", "helpful", 4.0))
    pairs = {
        (row["chosen"][0]["content"], row["rejected"][0]["content"]): row["margin"]
        for row in kept.rows("pairs")
    }
    # Scores: a 1, b -1, c (4 - 3) / 2 = 0.5.
    assert pairs == {
        ("An inlet.", "A fish."): 2.0, ("An inlet.", "A bay."): 0.5, ("A bay.", "A fish."): 1.5
    }  # fmt: skip


def test_rankings_come_before_votes_and_have_majorities_as_margins(kept):
    for id, text in (("a", "An inlet."), ("b", "A fish."), ("c", "A bay.")):
        kept.reply(id, text)
    kept.rank(["a"], ["b"], ["c"], who=ANN)
    kept.rank(["a"], ["c"], ["b"], who=BOB)
    kept.rank(["b"], ["a", "c"], who=CAT)
    kept.vote("b", 1)
    kept.vote("a", -1)
    # a over b: 2 - 1 = 1; a over c: 2 - 0 = 2; b over c: 2 - 1 = 1.
    found = [
        (row["chosen"][0]["content"], row["rejected"][0]["content"], row["margin"])
        for row in kept.rows("pairs")
    ]
    assert sorted(found) == [
        ("A fish.", "A bay.", 1), ("An inlet.", "A bay.", 2), ("An inlet.", "A fish.", 1)
    ]  # fmt: skip


def test_equal_replies_are_no_pair(kept):
    kept.reply("a", "An inlet.")
    kept.reply("b", "An inlet. ")
    kept.vote("a", 1)
    kept.vote("b", -1)
    assert kept.rows("pairs") == []


def test_labels_follow_the_mean_of_votes(kept):
    for id in ("a", "b", "c"):
        kept.reply(id, f"{id}.")
    for id, votes in {"a": (1, 1, -1), "b": (-1, -1, 1), "c": (1, -1)}.items():
        for who, vote in zip((ANN, BOB, CAT), votes, strict=False):
            kept.vote(id, vote, who)
    assert {row["id"]: row["label"] for row in kept.rows("kto")} == {"a": True, "b": False}


def test_ratings_are_means_by_criterion(kept):
    kept.reply("a", "An inlet.")
    for who, value in ((ANN, 5), (BOB, 2)):
        kept.judge("a", Judged("scale", "helpful", value), Judged("scale", "correct", 3), who=who)
    (row,) = kept.rows("ratings")
    assert row["ratings"] == {"correct": 3.0, "helpful": 3.5}


def test_ranked_trees_are_openassistants(kept, tmp_path):
    system = Conversation((Said("system", "Be brief."), *ASKED.messages))
    for id in ("a", "b"):
        kept.reply(id, f"{id}.", system)
    kept.rank(["b"], ["a"])
    (row,) = kept.rows("rankings")
    root = row["prompt"]
    assert (root["text"], root["role"], root["parent_id"]) == ("What is a fjord?", "prompter", None)
    assert {one["text"]: one["rank"] for one in root["replies"]} == {"a.": 1, "b.": 0}
    (example,) = written(tmp_path, [row])
    assert len(example.parts["text"]) == 2


@pytest.mark.parametrize("kind", ["sft", "pairs", "kto", "ratings"])
def test_what_comes_out_is_read_back(kept, kind, tmp_path):
    kept.reply("a", "An inlet.")
    kept.reply("b", "A fish.")
    kept.vote("a", 1)
    kept.vote("b", -1)
    kept.judge("a", Judged("scale", "helpful", 5))
    found = written(tmp_path, kept.rows(kind))
    assert len(found) == {"sft": 1, "pairs": 1, "kto": 2, "ratings": 1}[kind]
    if kind == "pairs":
        assert set(found[0].parts) == {"chosen", "rejected"}
        assert found[0].values["margin"] == 2.0  # (1 + 1) / 2 - (-1)


def written(place, rows):
    file = place / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    _, examples = formats.stream(file, "auto", components(), Counter())
    return list(examples)


def test_what_was_cut_withheld_or_deleted_is_not_learnt(kept):
    kept.reply("cut", "An in", state="cancelled")
    kept.reply("withheld", "Bad.", flagged="S1")
    for id in ("cut", "withheld"):
        kept.vote(id, 1)
    for kind in gathering.KINDS:
        assert kept.rows(kind) == []


@pytest.mark.parametrize(("said", "given", "assumed"), [(True, 1, 1), (None, 0, 1), (False, 0, 0)])
def test_only_words_of_people_who_consented_are_taken(kept, said, given, assumed):
    kept.do(lambda s: people.consented(s, BOB, said))
    kept.reply("r", "An inlet.", who=BOB)
    kept.vote("r", 1, who=ANN)
    for consent, count in (("given", given), ("assumed", assumed)):
        found = kept.gathered("sft", consent=consent)
        assert len(found.rows) == count
        assert found.left["conversations of people who did not consent"] == 1 - count
        assert len(found.people) == count


def test_only_what_was_judged_since_is_taken(kept):
    kept.reply("a", "An inlet.")
    kept.vote("a", 1)
    until = kept.gathered("sft").until
    assert kept.gathered("sft", since=until).rows == []
    kept.reply("b", "A bay.", Conversation((Said("user", "And a cove?"),)))
    kept.vote("b", 1)
    assert [row["id"] for row in kept.rows("sft", since=until)] == ["b"]
