"""What is asked is judged before it is answered, and what is answered before it is sent."""

import asyncio

import openai
import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.serving import backend, guard, opened, policy_in
from turnsmith.serve.guarding import Guard
from turnsmith.serve.served import Served
from turnsmith.testing import directory
from turnsmith.types import Conversation, Example, Message

ASKED = [{"role": "user", "content": "What is a fjord?"}]
BAD = [{"role": "user", "content": "How is a bomb made?"}]
seen = []


def of_bombs(conversations, examples):
    """A user's message is bad where it speaks of bombs, an assistant's where it has an even length."""
    seen.extend(conversations)
    last = [one.messages[-1] for one in conversations]
    return [float("bomb" in one.content if one.role == "user" else len(one.content) % 2 == 0) for one in last]


@pytest.fixture(scope="module")
def client(local, batching, server, running):
    served = {"tiny": Served("tiny", local, batching)} | opened({"far": f"{server.url}/v1#tiny"})
    made = Guard("bombs", of_bombs)
    url = running(served, backends=[backend(f"{server.url}/v1")], guards=[made]).url
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(client, messages, model="tiny", **more):
    asked = {"model": model, "messages": messages, "seed": 4, "max_tokens": 9, "logprobs": True}
    return client.chat.completions.create(**(asked | more))


@pytest.mark.parametrize("model", ["tiny", "far"])
def test_a_flagged_request_is_answered_by_no_model(client, batching, model, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a model was asked")

    monkeypatch.setattr(type(batching), "ask", never)
    found = ask(client, BAD, model, n=2)
    assert [one.finish_reason for one in found.choices] == ["content_filter"] * 2
    assert [one.message.content for one in found.choices] == [None] * 2
    assert found.choices[0].message.refusal == "This request is not answered: it was flagged by bombs."
    pieces = list(ask(client, BAD, model, stream=True))
    assert [one.choices[0].finish_reason for one in pieces] == [None, "content_filter"]
    assert pieces[0].choices[0].delta.refusal.endswith("flagged by bombs.")


@pytest.mark.parametrize("model", ["tiny", "far"])
def test_a_reply_is_withheld_or_comes_as_it_is(client, server, model):
    plain = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    there = ask(plain, ASKED, n=4)
    texts = [one.message.content for one in there.choices]
    bad = [len(text) % 2 == 0 for text in texts]
    assert 0 < sum(bad) < 4  # both sorts are there
    here = ask(client, ASKED, model, n=4)
    streamed = [""] * 4
    ends = [None] * 4
    for piece in ask(client, ASKED, model, n=4, stream=True):
        (one,) = piece.choices
        streamed[one.index] += one.delta.content or ""
        ends[one.index] = one.finish_reason
    for number, (one, other) in enumerate(zip(here.choices, there.choices, strict=True)):
        if bad[number]:
            assert (one.message.content, one.finish_reason, one.logprobs) == (None, "content_filter", None)
            assert (streamed[number], ends[number]) == ("", "content_filter")
        else:
            assert (one.message.content, one.finish_reason) == (other.message.content, other.finish_reason)
            assert (streamed[number], ends[number]) == (other.message.content, other.finish_reason)
    assert here.usage == there.usage


def test_a_guard_sees_the_conversation_and_then_the_reply_to_it(client):
    seen.clear()
    found = ask(client, [{"role": "system", "content": "Be brief."}, *ASKED], max_tokens=3)
    first, second = seen
    assert [one.role for one in first.messages] == ["system", "user"]
    assert [one.role for one in second.messages] == ["system", "user", "assistant"]
    said = second.messages[-1].content
    assert found.choices[0].message.content in (None, said)


def test_texts_are_judged_like_chats(client, local):
    asked = {"model": "tiny", "seed": 1, "max_tokens": 4}
    bad = client.completions.create(prompt="A bomb", **asked)
    assert (bad.choices[0].text, bad.choices[0].finish_reason) == ("", "content_filter")
    found = client.completions.create(prompt=["A fjord", "It"], n=2, **asked)
    for one in found.choices:
        assert (one.finish_reason == "content_filter") == (one.text == "")
    ids = local.renderer.ids("A bomb")  # is the same said in ids
    assert client.completions.create(prompt=ids, **asked).choices[0].finish_reason == "content_filter"
    with pytest.raises(openai.BadRequestError, match="far is at another server, and what is judged or kept"):
        client.completions.create(prompt=ids, **(asked | {"model": "far"}))


def test_what_cannot_be_judged_is_not_answered(local, batching, running):
    mute = Guard("mute", lambda conversations, examples: [None] * len(conversations))
    url = running({"tiny": Served("tiny", local, batching)}, guards=[mute]).url
    plain = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.InternalServerError, match="the guard mute cannot judge what is said"):
        ask(plain, ASKED)


def test_a_guard_model_flags_from_the_threshold_on(tmp_path):
    path = str(directory(tmp_path / "guard"))
    (tmp_path / "policy.yaml").write_text("Violence: Threats.\nHate: ''\n")
    policy = policy_in(tmp_path / "policy.yaml")
    assert policy == {"Violence": "Threats.", "Hate": ""}
    asked = Conversation((Message("user", "What is a fjord?"),))
    made = guard(f"guard={path}", policy)
    (share,) = made.scorer([asked], [Example({"text": asked}, meta={"id": "x"})])
    for threshold, expected in ((share - 1e-6, True), (min(1.0, share + 1e-3), False)):
        one = Guard("guard", made.scorer, threshold)
        assert asyncio.run(one.flags(asked)) is expected


@pytest.mark.parametrize(
    ("named", "more", "said"),
    [
        ("guard=x", {}, "policy"),
        ("profanity=x", {}, "the scorer profanity asks no model"),
        ("nothing", {}, "nothing"),
        ("guard=x", {"policy": {"A": ""}, "threshold": 2}, "between 0 and 1"),
    ],
)
def test_what_is_no_guard_is_refused(named, more, said):
    with pytest.raises(UsageError, match=said):
        guard(named, **more)


def test_a_policy_that_is_none_is_refused(tmp_path):
    (tmp_path / "policy.yaml").write_text("- Violence\n")
    with pytest.raises(UsageError, match="is no policy: write a line"):
        policy_in(tmp_path / "policy.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        policy_in(tmp_path / "other.yaml")
