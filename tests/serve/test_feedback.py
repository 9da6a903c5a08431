"""What was said is kept, judged, read back and deleted, over HTTP and on both databases."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time

import httpx2 as httpx
import openai
import pytest
from sqlalchemy import select

from turnsmith.serve.served import Served
from turnsmith.serve.store import keys
from turnsmith.serve.store.tables import Judgement, Message, Person, Piece, Ranking, Tree
from turnsmith.serve.store.writing import Store

ASKED = [{"role": "user", "content": "What is a fjord?"}]


@pytest.fixture
def server(local, batching, store, running):
    return running({"tiny": Served("tiny", local, batching, weights="w1")}, store=store)


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def http(server):
    with httpx.Client(base_url=f"{server.url}/v1", timeout=30) as made:
        yield made


def said(client, **more):
    return client.chat.completions.create(
        **{"model": "tiny", "messages": ASKED, "max_tokens": 6, "seed": 1, **more}
    )


def rows(store, table):
    return store.read(lambda s: s.scalars(select(table)).all())


def test_a_reply_is_kept_with_what_made_it(client, store, local):
    found = said(client, temperature=0.5, user="ann")
    (reply,) = (one for one in rows(store, Message) if one.role == "assistant")
    assert reply.id == found.choices[0].message_id
    assert reply.content == found.choices[0].message.content
    assert (reply.model, reply.weights, reply.template) == ("tiny", "w1", local.renderer.fingerprint)
    assert (reply.made, reply.seed) == ({"temperature": 0.5, "max_tokens": 6}, 1)
    assert len(reply.ids) == found.usage.completion_tokens == len(reply.logprobs)
    assert (reply.state, reply.finish) == ("whole", found.choices[0].finish_reason)
    assert [one.name for one in rows(store, Person)] == ["ann"]


def test_a_stream_is_kept_and_says_which_message_it_is(client, store):
    pieces = list(said(client, stream=True, n=2))
    ids = {
        one.choices[0].index: one.choices[0].message_id
        for one in pieces
        if hasattr(one.choices[0], "message_id")
    }
    texts = ["", ""]
    for one in pieces:
        texts[one.choices[0].index] += one.choices[0].delta.content or ""
    kept = {one.id: one.content for one in rows(store, Message) if one.role == "assistant"}
    assert kept == {ids[0]: texts[0], ids[1]: texts[1]}
    assert rows(store, Piece) == []


def test_a_talk_grows_as_a_tree(client, http):
    first = said(client)
    again = [*ASKED, {"role": "assistant", "content": first.choices[0].message.content}, *ASKED]
    second = said(client, messages=again)
    said(client, seed=2)
    (about,) = http.get("/conversations").json()["data"]
    assert about["opening"] == "What is a fjord?"
    (root,) = http.get(f"/conversations/{about['id']}").json()["messages"]
    one, other = root["replies"]
    assert (one["id"], len(other["replies"])) == (first.choices[0].message_id, 0)
    assert one["replies"][0]["replies"][0]["id"] == second.choices[0].message_id


def test_conversations_are_found_by_what_a_client_calls_them(client, http):
    for tag in ("one", "two"):
        said(client, metadata={"conversation": tag})
    (found,) = http.get("/conversations?tag=one").json()["data"]
    assert found["tag"] == "one"
    assert http.get("/conversations?tag=three").json()["data"] == []
    assert http.get("/conversations?tag=%00").status_code == 400


def test_a_text_that_was_gone_on_from_is_kept(client, store):
    found = client.completions.create(model="tiny", prompt=["A fjord", "A lake"], max_tokens=4, seed=1)
    kept = [(one.role, one.content) for one in rows(store, Message)]
    assert sorted(kept) == sorted(
        [("text", "A fjord"), ("text", "A lake"), *(("text", one.text) for one in found.choices)]
    )


def test_nothing_is_kept_where_the_request_says_so(client, store):
    found = said(client, store=False)
    assert not hasattr(found.choices[0], "message_id")
    assert rows(store, Message) == []


def test_who_goes_away_leaves_what_had_come(client, store):
    stream = said(client, stream=True, max_tokens=400, extra_body={"min_p": 0.0})
    for number, _ in enumerate(stream):
        if number == 5:
            break
    stream.close()
    deadline = time.monotonic() + 10
    while (states := {one.state for one in rows(store, Message)}) == {"whole", "coming"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert states <= {"whole", "cancelled"}


def judge(http, id, *judgements, status=200, **more):
    given = http.post(f"/messages/{id}/judgements", json={"judgements": list(judgements), **more})
    assert given.status_code == status, given.text
    return given.json()


def test_judgements_replace_each_other_and_comments_do_not(client, http, store):
    id = said(client).choices[0].message_id
    judge(http, id, {"kind": "vote", "value": 1}, {"kind": "scale", "name": "helpful", "value": 4})
    judge(http, id, {"kind": "vote", "value": -1}, {"kind": "comment", "text": "Too long."})
    judge(http, id, {"kind": "comment", "text": "Really."}, {"kind": "correction", "text": "An inlet."})
    judge(http, id, {"kind": "vote", "value": 1}, user="bob")
    found = sorted((one.kind, one.value, one.text) for one in rows(store, Judgement))
    assert found == [
        ("comment", None, "Really."),
        ("comment", None, "Too long."),
        ("correction", None, "An inlet."),
        ("scale", 4.0, None),
        ("vote", -1.0, None),
        ("vote", 1.0, None),
    ]
    judge(http, id, {"kind": "vote", "value": 0})
    assert [one.value for one in rows(store, Judgement) if one.kind == "vote"] == [1.0]


@pytest.mark.parametrize(
    ("judgement", "said_why"),
    [
        ({"kind": "thumb", "value": 1}, "kind: 'thumb' is unknown"),
        ({"kind": "vote", "value": 0.5}, "a vote is 1, -1, or 0"),
        ({"kind": "scale", "name": "helpful", "value": 6}, "from 1 to 5"),
        ({"kind": "scale", "name": "funny", "value": 3}, "no scale 'funny': there are helpful"),
        ({"kind": "label", "value": 0.5}, "name what they are about"),
        ({"kind": "comment", "text": " "}, "a comment has a text"),
        ({"kind": "comment", "text": "a\x00b"}, "NUL"),
        ({"kind": "vote"}, "has a value"),
    ],
)
def test_what_is_no_judgement_is_refused(client, http, store, judgement, said_why):
    id = said(client).choices[0].message_id
    assert said_why in judge(http, id, judgement, status=400)["error"]["message"]
    assert rows(store, Judgement) == []


def test_only_replies_are_corrected(client, http, store):
    said(client)
    (asked,) = (one.id for one in rows(store, Message) if one.role == "user")
    found = judge(http, asked, {"kind": "correction", "text": "Why?"}, status=400)
    assert "only replies are corrected" in found["error"]["message"]


def test_replies_are_put_in_order(client, http, store):
    ids = [one.message_id for one in said(client, n=3).choices]
    (asked,) = (one.id for one in rows(store, Message) if one.role == "user")
    url = f"/messages/{asked}/ranking"
    for order in ([ids[0], ids[1:]], [ids[2], ids[0]]):
        assert http.put(url, json={"order": order, "blind": True}).status_code == 200
    (kept,) = rows(store, Ranking)
    assert (kept.order, kept.blind) == ([[ids[2]], [ids[0]]], True)
    for order, why in [
        ([ids[0]], "two replies or more"),
        ([ids[0], ids[0]], "each once"),
        ([ids[0], []], "no empty group"),
        ([ids[0], asked], "is no reply to this message"),
    ]:
        refused = http.put(url, json={"order": order})
        assert refused.status_code == 400
        assert why in refused.json()["error"]["message"]


def keyed(store, name, role):
    return {"Authorization": f"Bearer {store.write(lambda s: keys.made(s, name, role)).result()}"}


def test_a_key_is_needed_once_there_is_one(server, store, client, http):
    ann = keyed(store, "ann", "user")
    server.app.state.doors._looked = float("-inf")
    for asked in (lambda: said(client), client.models.list):
        with pytest.raises(openai.AuthenticationError, match="Authorization: Bearer"):
            asked()
    assert http.get("/models").status_code == 401
    assert http.get("/models", headers=ann).status_code == 200
    store.write(lambda s: keys.ended(s, "ann")).result()
    store.write(lambda s: keys.made(s, "eve", "admin")).result()
    server.app.state.doors._looked = float("-inf")
    assert http.get("/models", headers=ann).status_code == 401


def test_people_see_and_judge_their_own_and_annotators_all(server, store, http):
    ann, bob, rater, chief = (
        keyed(store, name, role)
        for name, role in (("ann", "user"), ("bob", "user"), ("rater", "annotator"), ("chief", "admin"))
    )
    server.app.state.doors._looked = float("-inf")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=ann["Authorization"][7:], max_retries=0)
    id = said(client).choices[0].message_id
    (tree,) = (one.id for one in rows(store, Tree))
    vote = {"judgements": [{"kind": "vote", "value": 1}]}
    for who, status in ((ann, 200), (bob, 404), (rater, 200)):
        assert http.post(f"/messages/{id}/judgements", json=vote, headers=who).status_code == status
        assert http.get(f"/conversations/{tree}", headers=who).status_code == status
        assert len(http.get("/conversations", headers=who).json()["data"]) == (status == 200)
    assert http.get("/conversations?mine=true", headers=rater).json()["data"] == []
    assert len(http.get("/conversations?mine=true", headers=ann).json()["data"]) == 1
    (me,) = (one.id for one in rows(store, Person) if one.key == "ann")
    assert http.delete(f"/people/{me}", headers=rater).status_code == 403
    assert http.delete(f"/people/{me}", headers=chief).json()["counts"]["conversations"] == 1


def test_no_key_and_no_password_stands_in_the_store(store):
    key = store.write(lambda s: keys.made(s, "ann", "user")).result()
    found = store.read(keys.known)
    assert list(found) == [keys.digest(key)]
    assert key not in json.dumps(list(found))


def test_one_persons_data_are_deleted_with_a_receipt(client, http, store, url):
    secret = "Zanzibar 4711"
    own = said(client, user="ann", messages=[{"role": "user", "content": secret}]).choices[0].message_id
    judge(http, own, {"kind": "vote", "value": 1}, user="bob")
    other = said(client, user="bob").choices[0].message_id
    judge(http, other, {"kind": "comment", "text": f"{secret}!"}, user="ann")
    judge(http, other, {"kind": "vote", "value": 1}, user="bob")
    me = http.get("/people/me", params={"user": "ann"}).json()["id"]
    receipt = http.delete("/people/me", params={"user": "ann"}).json()
    assert receipt["counts"] == {
        "judgements": 2, "rankings": 0, "emptied": 0, "messages": 2, "conversations": 1
    }  # fmt: skip
    assert [one.name for one in rows(store, Person)] == ["bob"]
    assert len(rows(store, Message)) == 2
    assert [one.kind for one in rows(store, Judgement)] == ["vote"]
    (again,) = http.get(f"/people/{me}/receipts").json()["data"]
    assert again == receipt
    assert http.delete(f"/people/{me}").status_code == 400
    store.close()
    if not url.startswith("postgresql"):
        assert secret.encode() not in b"".join(map(open_bytes, (url, f"{url}-wal")))


def open_bytes(path):
    try:
        with open(path, "rb") as opened:  # noqa: PTH123
            return opened.read()
    except FileNotFoundError:
        return b""


def test_consent_is_kept_and_can_be_taken_back(http):
    assert http.get("/people/me").json()["consent"] is None
    for consent in (True, False, None):
        assert http.put("/people/me/consent", json={"consent": consent}).json()["consent"] is consent
        assert http.get("/people/me").json()["consent"] is consent


@pytest.mark.parametrize("stream", [False, True])
def test_a_database_that_is_down_refuses_readably_and_comes_back(
    local, batching, postgresql, running, stream
):
    store = Store(postgresql.fresh())
    server = running({"tiny": Served("tiny", local, batching)}, store=store, patience=0.3)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    said(client)
    postgresql.stop()
    try:
        with pytest.raises(openai.APIStatusError, match="does not answer") as raised:
            said(client, stream=stream, seed=7)
        assert raised.value.status_code == 503
        assert raised.value.response.headers["Retry-After"] == "1"
    finally:
        postgresql.start()
    deadline = time.monotonic() + 10
    while store.away and time.monotonic() < deadline:
        time.sleep(0.05)
    found = said(client, seed=8)
    assert found.choices[0].message_id in {one.id for one in rows(store, Message)}


def test_a_server_that_is_killed_in_a_stream_has_kept_all_that_it_sent(tmp_path, local_directory):
    made = "import sys; from turnsmith.cli.main import main; main()"
    command = [sys.executable, "-c", made, "serve", f"tiny={local_directory}", "--port", "0"]
    with subprocess.Popen(
        [*command, "--db", "a.db"], cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        try:
            url = re.search(r"http://\S+/v1", process.stdout.readline())[0]
            client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
            text = ""
            for number, piece in enumerate(said(client, stream=True, max_tokens=400, temperature=1.5)):
                text += piece.choices[0].delta.content or ""
                if number == 20:
                    break
        finally:
            process.kill()
    assert len(text) > 5
    store = Store(str(tmp_path / "a.db"), stale=0.0)
    store.write(lambda s: None).result()
    (reply,) = (one for one in rows(store, Message) if one.role == "assistant")
    assert reply.state == "cut"
    assert reply.content.startswith(text)
    store.close()
    with sqlite3.connect(tmp_path / "a.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
