"""What guards flag and what other servers answer is kept like all else."""

import openai
import pytest
from sqlalchemy import select

from turnsmith.recipes.serving import opened
from turnsmith.serve.guarding import Guard
from turnsmith.serve.served import Served
from turnsmith.serve.store.tables import Message
from turnsmith.serve.store.writing import Store

ASKED = [{"role": "user", "content": "What is a fjord?"}]


@pytest.fixture
def kept(tmp_path):
    made = Store(str(tmp_path / "talks.db"))
    yield made
    made.close()


def replies(store):
    found = store.read(lambda session: session.scalars(select(Message)).all())
    return [one for one in found if one.role in ("assistant", "text") and one.model]


def speaking(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def of_bombs(conversations, examples):
    """What is asked is bad where it speaks of bombs, and every reply is."""
    last = [one.messages[-1] for one in conversations]
    return [float("bomb" in one.content or one.role == "assistant") for one in last]


@pytest.mark.parametrize("model", ["tiny", "far"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_flagged_is_kept_with_who_flagged_it(local, batching, server, running, kept, model, stream):
    served = {"tiny": Served("tiny", local, batching)} | opened({"far": f"{server.url}/v1#tiny"})
    client = speaking(running(served, store=kept, guards=[Guard("bombs", of_bombs)]).url)
    whole = speaking(server.url).chat.completions.create(
        model="tiny", messages=ASKED, seed=2, max_tokens=5
    ).choices[0]  # fmt: skip
    for text in ("What is a fjord?", "What is a bomb?"):
        found = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], seed=2, max_tokens=5, stream=stream
        )
        choices = [piece.choices[0] for piece in found] if stream else found.choices
        assert choices[-1].finish_reason == "content_filter"
        assert whole.message.content not in str(choices)
        (id,) = {one.message_id for one in choices if hasattr(one, "message_id")}
        assert id in [one.id for one in replies(kept)]
    how = {(one.finish, one.flagged, one.model) for one in replies(kept)}
    assert how == {("content_filter", "bombs", model)}
    assert {one.content for one in replies(kept)} == {whole.message.content, ""}


@pytest.mark.parametrize("stream", [False, True])
def test_what_another_server_answers_is_kept_as_it_comes(server, running, kept, stream):
    client = speaking(running(opened({"far": f"{server.url}/v1#tiny"}), store=kept).url)
    asked = {"messages": ASKED, "seed": 2, "max_tokens": 6, "n": 2}
    there = speaking(server.url).chat.completions.create(model="tiny", **asked)
    found = client.chat.completions.create(
        model="far", **asked, stream=stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    )  # fmt: skip
    texts, ids = ["", ""], {}
    for piece in found if stream else [found]:
        for one in piece.choices:
            ids |= {one.message_id: one.index} if hasattr(one, "message_id") else {}
            texts[one.index] += (one.delta if stream else one.message).content or ""
        usage = piece.usage
    assert texts == [one.message.content for one in there.choices]
    assert usage == there.usage
    by_id = {one.id: (one.content, one.finish, one.state) for one in replies(kept)}
    ends = [one.finish_reason for one in there.choices]
    assert by_id == {id: (texts[number], ends[number], "whole") for id, number in ids.items()}


def test_texts_of_another_server_are_kept(server, running, kept):
    client = speaking(running(opened({"far": f"{server.url}/v1#tiny"}), store=kept).url)
    asked = {"model": "far", "prompt": "A fjord", "seed": 2, "max_tokens": 5}
    whole = client.completions.create(**asked).choices[0].text
    pieces = client.completions.create(**asked, stream=True)
    assert "".join(one.choices[0].text for one in pieces) == whole
    assert [one.content for one in replies(kept)] == [whole, whole]
