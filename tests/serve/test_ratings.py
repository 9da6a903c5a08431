"""Which models people prefer and how far they agree, over HTTP and both databases, worked out by hand."""

from itertools import product
from math import log

import httpx2 as httpx
import pytest

from turnsmith.serve.store import judging, keys, people, talks
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.tables import Message
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

ANN, BOB = Who("", "ann"), Who("", "bob")


class Kept:
    """A store with short ways to fill it. Replies are called by their message and model: `3 old`."""

    def __init__(self, store):
        self.store = store

    def do(self, work):
        return self.store.write(work).result()

    def replies(self, count):
        def keep(session):
            for at, model in product(range(count), ("old", "new")):
                asked, name = Conversation((Said("user", f"Question {at}?"),)), f"{at} {model}"
                talks.begun(session, ANN, asked, Made(model), ids=[name], writer=None)
                talks.ended(session, name, Ended(Said("assistant", name), "stop", 1.0))

        self.do(keep)

    def rank(self, who, *order, blind=True):
        def keep(session):
            parent = session.get_one(Message, order[0][0]).parent
            judging.rank(session, talks.person(session, who), parent, order, blind=blind, all_trees=True)

        self.do(keep)

    def judge(self, who, name, *judged):
        self.do(lambda s: judging.judge(s, talks.person(s, who), name, judged, all_trees=True))

    def vote(self, who, name, value):
        self.judge(who, name, Judged("vote", value=value))


@pytest.fixture
def kept(store):
    made = Kept(store)
    made.replies(9)
    return made


@pytest.fixture
def ask(kept, running):
    server = running({}, store=kept.store)

    def asked(**query):
        answer = httpx.get(f"{server.url}/v1/ratings", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    yield asked
    server.stop()


def pair(found, first="new", second="old"):
    return next(one for one in found["pairs"] if (one["first"], one["second"]) == (first, second))


def test_a_win_rate_has_the_interval_worked_out_by_hand(kept, ask):
    for at in range(6):
        kept.rank(ANN, [f"{at} new"], [f"{at} old"])
    for at in (6, 7):
        kept.rank(ANN, [f"{at} old"], [f"{at} new"])
    found = ask()
    one = pair(found)
    assert (one["comparisons"], one["wins"], one["ties"], one["losses"], one["n"]) == (8, 6, 0, 2, 8)
    # 6 of 8; with a win and a loss made up s = .483046, error .152753, t(7) = 2.364624: 0.75 - .361203
    assert one["value"] == 0.75
    assert one["low"] == pytest.approx(0.388797, abs=1e-5)
    assert one["high"] == 1
    strong, weak = found["strengths"]
    assert strong["model"] == "new"
    assert strong["points"] - weak["points"] == pytest.approx(400 / log(10) * log(6.5 / 2.5), abs=1e-6)
    assert (found["comparisons"], found["messages"], found["people"]) == (8, 8, 1)


def test_votes_on_both_replies_are_a_preference_unless_the_person_ranked_them(kept, ask):
    kept.vote(ANN, "0 new", 1)
    kept.vote(ANN, "0 old", -1)  # new is preferred
    kept.vote(ANN, "1 new", 1)
    kept.vote(ANN, "1 old", 1)  # a tie
    kept.vote(ANN, "2 new", 1)  # one vote alone prefers nothing
    kept.vote(ANN, "3 new", 1)
    kept.vote(ANN, "3 old", -1)
    kept.rank(ANN, ["3 old"], ["3 new"], blind=False)  # what was ranked counts
    one = pair(ask())
    assert (one["wins"], one["ties"], one["losses"]) == (1, 1, 1)
    assert one["value"] == 0.5


def test_blind_leaves_out_what_was_judged_with_names_in_view(kept, ask):
    kept.rank(ANN, ["0 new"], ["0 old"], blind=True)
    kept.rank(BOB, ["0 old"], ["0 new"], blind=False)
    kept.vote(BOB, "1 old", 1)
    kept.vote(BOB, "1 new", -1)
    assert pair(ask())["comparisons"] == 3
    one = pair(ask(blind="true"))
    assert (one["comparisons"], one["value"]) == (1, 1)


def test_replies_of_one_model_are_no_comparison_of_models(kept, ask):
    kept.do(lambda s: s.get_one(Message, "0 old").__setattr__("model", "new"))
    kept.rank(ANN, ["0 new"], ["0 old"])
    found = ask()
    assert (found["pairs"], found["strengths"], found["comparisons"]) == ([], [], 0)
    assert found["agreement"][0]["kind"] == "preference"


def test_what_was_deleted_counts_no_more(kept, ask):
    kept.rank(ANN, ["0 new"], ["0 old"])
    kept.do(lambda s: s.get_one(Message, "0 old").__setattr__("deleted", True))
    assert ask()["comparisons"] == 0


def test_agreement_is_told_by_what_was_judged(kept, ask):
    # Ann and Bob rank four pairs and differ on one: values 1 1 0 0 and 1 0 0 0, as in tests/evaluation.
    for at, (ann, bob) in enumerate([("new", "new"), ("new", "old"), ("old", "old"), ("old", "old")]):
        for who, best in ((ANN, ann), (BOB, bob)):
            worst = "old" if best == "new" else "new"
            kept.rank(who, [f"{at} {best}"], [f"{at} {worst}"])
    # On a scale: 1, 2 and 5, 5. D_o = 2 * 1 / 4; D_e over 1 2 5 5: 1 + 2 * 16 + 2 * 9 = 51 of 6 pairs.
    for name, ann, bob in (("0 new", 1, 2), ("1 new", 5, 5)):
        kept.judge(ANN, name, Judged("scale", "helpful", ann))
        kept.judge(BOB, name, Judged("scale", "helpful", bob))
    kept.vote(ANN, "0 new", 1)
    found = {(one["kind"], one["name"]): one for one in ask()["agreement"]}
    ranked = found["preference", ""]
    assert ranked["alpha"] == pytest.approx(1 - (2 / 8) / (30 / 56), abs=1e-12)
    assert (ranked["equal"], ranked["units"], ranked["people"]) == (0.75, 4, 2)
    assert found["scale", "helpful"]["alpha"] == pytest.approx(1 - (2 / 4) / (51 / 6), abs=1e-12)
    assert (found["vote", ""]["alpha"], found["vote", ""]["units"]) == (None, 0)


def test_ratings_are_for_annotators_and_name_nobody(kept, running):
    kept.rank(ANN, ["0 new"], ["0 old"])
    made = {role: kept.do(lambda s, r=role: keys.made(s, r, r)) for role in ("user", "annotator", "admin")}
    server = running({}, store=kept.store)

    def status(role):
        header = {"Authorization": f"Bearer {made[role]}"}
        return httpx.get(f"{server.url}/v1/ratings", headers=header)

    assert status("user").status_code == 403
    assert status("admin").status_code == 200
    answer = status("annotator")
    assert answer.status_code == 200
    ids = [kept.do(lambda s, w=who: people.about(s, w))["id"] for who in (ANN, BOB)]
    assert not any(id in answer.text for id in ids)
    assert httpx.get(f"{server.url}/v1/ratings").status_code == 401
