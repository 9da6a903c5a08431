"""Annotators grow a tree over HTTP, from its first message to data of OpenAssistant's form."""

from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest
from sqlalchemy import select

from turnsmith.serve.growing import Rules
from turnsmith.serve.store import erasing, gathering
from turnsmith.serve.store.tables import Message, Person, Tree

# A question and its two answers; one review each, two rankings.
SMALL = Rules(goal=3, depth=1, children=2, reviews=1, rankings=2)


@pytest.fixture
def http(store, running):
    server = running({}, store=store, rules=SMALL)
    with httpx.Client(base_url=f"{server.url}/v1", timeout=30) as made:
        yield made


def do(http, who, text="An inlet."):
    """The next task of somebody, done."""
    task = http.get("/task", params={"user": who}).json()["task"]
    if task is None:
        return None
    url = f"/messages/{task['message']}"
    if task["kind"] == "review":
        done = http.post(f"{url}/review", json={"user": who, "score": 0.9})
    elif task["kind"] == "rank":
        order = sorted((one["content"], one["id"]) for one in task["replies"])
        done = http.put(f"{url}/ranking", json={"user": who, "order": [id for _, id in order]})
    else:
        done = http.post(f"{url}/replies", json={"user": who, "text": text})
    assert done.status_code == 200, done.text
    return task["kind"]


def plant(http, who="ann"):
    return http.post("/trees", json={"text": "What is a fjord?", "language": "en", "user": who}).json()[
        "tree"
    ]


def state(store):
    return store.read(lambda s: s.scalars(select(Tree.state)).one())


def test_a_tree_is_grown_and_comes_out_with_ranks(http, store):
    plant(http)
    assert do(http, "ann") is None  # nobody reviews their own
    assert [do(http, "bob"), state(store)] == ["review", "growing"]
    assert do(http, "bob", "An inlet.") == "reply_as_assistant"
    assert do(http, "cat", "A fish.") in ("reply_as_assistant", "review")
    for who in ("cat", "bob", "ann"):  # what is still to be reviewed, each by another
        if state(store) == "growing":
            do(http, who, "A fish.")
    assert state(store) == "ranking"
    assert [do(http, "bob"), do(http, "dan"), state(store)] == [None, "rank", "ranking"]
    assert [do(http, "eve"), state(store)] == ["rank", "ready_for_export"]
    (row,) = store.read(lambda s: gathering.gathered(s, "rankings", consent="assumed")).rows
    assert {one["text"]: one["rank"] for one in row["prompt"]["replies"]} == {"A fish.": 0, "An inlet.": 1}
    assert row["tree_state"] == "ready_for_export"
    assert do(http, "fay") is None


def test_of_two_who_are_given_the_same_task_one_comes_too_late(http, store):
    plant(http)
    tasks = [http.get("/task", params={"user": who}).json()["task"] for who in ("bob", "cat")]
    assert tasks[0] == tasks[1]
    url = f"/messages/{tasks[0]['message']}/review"
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda who: http.post(url, json={"user": who, "score": 1}), ("bob", "cat")))
    assert sorted(one.status_code for one in done) == [200, 400]
    (late,) = (one for one in done if one.status_code == 400)
    assert "no longer, to be done" in late.json()["error"]["message"]


def test_a_poor_first_message_ends_its_tree(http, store):
    plant(http)
    (message,) = store.read(lambda s: s.scalars(select(Message.id)).all())
    http.post(f"/messages/{message}/review", json={"user": "bob", "score": 0.2})
    assert state(store) == "aborted_low_grade"
    assert do(http, "cat") is None


def test_moderators_halt_and_what_is_over_stays_so(http, store):
    tree = plant(http)
    assert http.post(f"/trees/{tree}/halt").json() == {"state": "halted_by_moderator"}
    again = http.post(f"/trees/{tree}/halt")
    assert (again.status_code, "it is over" in again.json()["error"]["message"]) == (400, True)
    assert http.post("/trees/none/halt").status_code == 404


def test_what_a_deleted_person_wrote_into_anothers_tree_is_emptied(http, store):
    plant(http)
    do(http, "bob")
    do(http, "bob", "A secret.")
    bob = store.read(lambda s: s.scalars(select(Person.id).where(Person.name == "bob")).one())
    receipt = store.write(lambda s: erasing.erased(s, bob)).result()
    assert receipt["counts"]["emptied"] == 1
    texts = store.read(lambda s: s.execute(select(Message.content, Message.deleted)).all())
    assert sorted(texts) == [("", True), ("What is a fjord?", False)]
    assert do(http, "cat") is not None  # the tree goes on without it


def test_what_is_no_task_is_refused(http, store):
    plant(http)
    (message,) = store.read(lambda s: s.scalars(select(Message.id)).all())
    for url, body in [
        (f"/messages/{message}/replies", {"text": "An inlet."}),
        (f"/messages/{message}/review", {"score": 1, "user": "ann"}),
        ("/trees", {"text": "  "}),
    ]:
        assert http.post(url, json=body).status_code == 400
    assert http.post(f"/messages/{message}/review", json={"score": 2}).status_code == 400
    assert http.post("/messages/none/review", json={"score": 1}).status_code == 404
