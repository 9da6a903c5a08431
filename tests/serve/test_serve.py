"""The endpoint, asked by OpenAI's own client."""

import json
import threading
import time

import httpx2 as httpx
import openai
import pytest

from turnsmith.sample.chat import samples
from turnsmith.sample.joining import Joining
from turnsmith.serve.batching import Coming
from turnsmith.types import Completion, Conversation, Message, Sampling

ASKED = [{"role": "user", "content": "What is a fjord?"}]


def same(local, seed, **sampling):
    (reply,) = local(
        [Conversation((Message("user", ASKED[0]["content"]),))], sampling=Sampling(**sampling), seed=seed
    )
    return reply


def test_a_reply_is_that_of_the_model_itself(local, client):
    found = client.chat.completions.create(
        model="tiny", messages=ASKED, seed=5, temperature=0.9, max_tokens=12
    )
    reply = same(local, 5, temperature=0.9, max_new=12)
    assert found.choices[0].message.content == reply.message.content
    assert found.choices[0].finish_reason == reply.finish
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (
        reply.usage.prompt,
        reply.usage.completion,
    )
    assert found.usage.total_tokens == reply.usage.prompt + reply.usage.completion


def test_a_stream_says_what_the_whole_reply_says(local, client):
    pieces = list(
        client.chat.completions.create(
            model="tiny", messages=ASKED, seed=5, temperature=0.9, max_tokens=12, stream=True,
            stream_options={"include_usage": True},
        )
    )  # fmt: skip
    text = "".join(one.choices[0].delta.content or "" for one in pieces if one.choices)
    reply = same(local, 5, temperature=0.9, max_new=12)
    assert text == reply.message.content
    assert [one.choices[0].finish_reason for one in pieces if one.choices][-1] == reply.finish
    assert pieces[-1].usage.completion_tokens == reply.usage.completion
    assert pieces[-1].choices == []


def test_several_replies_are_those_that_are_drawn_together(local, client):
    asked = {"model": "tiny", "messages": ASKED, "seed": 3, "n": 3, "max_tokens": 8}
    (expected,) = samples(
        local,
        [Conversation((Message("user", ASKED[0]["content"]),))],
        3,
        sampling=Sampling(max_new=8),
        seed=3,
    )
    texts = [reply.message.content for reply in expected]
    assert len(set(texts)) == 3
    assert [one.message.content for one in client.chat.completions.create(**asked).choices] == texts
    said = ["", "", ""]
    for piece in client.chat.completions.create(**asked, stream=True):
        for choice in piece.choices:
            said[choice.index] += choice.delta.content or ""
    assert said == texts


def test_log_probs_are_those_of_the_tokens(local, client):
    found = client.chat.completions.create(model="tiny", messages=ASKED, seed=5, max_tokens=6, logprobs=True)
    reply = same(local, 5, max_new=6)
    told = found.choices[0].logprobs.content
    assert [one.logprob for one in told] == pytest.approx(list(reply.message.logprobs), abs=1e-5)
    text = bytes(byte for one in told for byte in one.bytes).decode()
    assert text == local.renderer.tokenizer.decode(reply.message.ids).rstrip("\ufffd")  # half a character


def test_a_reply_keeps_to_a_json_schema(client):
    schema = {
        "type": "object",
        "properties": {"deep": {"type": "boolean"}},
        "required": ["deep"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "depth", "schema": schema}}
    found = client.chat.completions.create(
        model="tiny", messages=ASKED, seed=1, max_tokens=60, response_format=wanted
    )
    assert isinstance(json.loads(found.choices[0].message.content)["deep"], bool)


def test_a_reply_ends_at_a_text(local, client):
    whole = same(local, 5, max_new=24).message.content
    stop = whole[6:8]
    for stream in (False, True):
        found = client.chat.completions.create(
            model="tiny", messages=ASKED, seed=5, max_tokens=24, stop=stop, stream=stream
        )
        text = (
            "".join(one.choices[0].delta.content or "" for one in found)
            if stream
            else found.choices[0].message.content
        )
        assert text == whole[: whole.index(stop)]


def test_text_goes_on_from_a_prompt_or_several(local, client):
    found = client.completions.create(
        model="tiny", prompt=["A fjord", "is"], seed=2, max_tokens=5, n=2, echo=True
    )
    assert [one.index for one in found.choices] == [0, 1, 2, 3]
    assert [
        one.text[: len(begun)] for one, begun in zip(found.choices, ["A fjord"] * 2 + ["is"] * 2, strict=True)
    ] == ["A fjord"] * 2 + ["is"] * 2
    ids = local.renderer.ids("A fjord")
    assert found.usage.prompt_tokens == len(ids) + len(local.renderer.ids("is"))
    assert found.usage.completion_tokens == 20
    by_ids = client.completions.create(model="tiny", prompt=ids, seed=2, max_tokens=5, n=2, logprobs=1)
    assert [one.text for one in by_ids.choices] == [
        one.text.removeprefix("A fjord") for one in found.choices[:2]
    ]
    told = "".join(by_ids.choices[0].logprobs.tokens)
    assert told == by_ids.choices[0].text.rstrip("\ufffd")  # half a character has no text
    streamed = client.completions.create(model="tiny", prompt="A fjord", seed=2, max_tokens=5, stream=True)
    assert "".join(one.choices[0].text for one in streamed) == by_ids.choices[0].text


def test_the_models_are_listed(client):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({"model": "other"}, openai.NotFoundError, "no model 'other' is served; there are: tiny"),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            openai.BadRequestError,
            r"messages\[0\] has the unknown role 'robot'",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x"}]},
            openai.BadRequestError,
            "the last message is the assistant's",
        ),
        ({"temperature": 3}, openai.BadRequestError, "temperature: Input should be less than or equal to 2"),
        ({"max_tokens": 1000}, openai.BadRequestError, "the model's context ends at|a row has 512"),
        ({"top_logprobs": 3}, openai.BadRequestError, "ask for `logprobs: true` too"),
        ({"top_logprobs": 21, "logprobs": True}, openai.BadRequestError, "top_logprobs: Input should be"),
        (
            {"tool_choice": "required", "tools": []},
            openai.BadRequestError,
            "tool_choice: a tool is to be called; of tools there is none",
        ),
        ({"extra_body": {"colour": "red"}}, openai.BadRequestError, "colour: Extra inputs are not permitted"),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, "response_format: take"),
        (
            {"messages": [{"role": "user", "content": "x" * 30_000}]},
            openai.APIStatusError,
            "more than 20,000 bytes",
        ),
    ],
)
def test_what_cannot_be_answered_gets_an_error_in_openais_form(client, asked, kind, said):
    with pytest.raises(kind, match=said) as error:
        client.chat.completions.create(**({"model": "tiny", "messages": ASKED} | asked))
    assert set(error.value.response.json()["error"]) == {"message", "type", "param", "code"}


def test_who_finds_no_place_in_the_queue_is_told_when_to_come_again(server, batching):
    body = {"model": "tiny", "messages": ASKED, "n": 8, "max_tokens": 4}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    settled(batching)


def settled(batching):
    until = time.monotonic() + 30
    while batching.count:
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("stream", [True, False])
def test_what_nobody_waits_for_is_not_drawn_on(server, batching, stream, monkeypatch):
    step, tell, told = Joining.step, Coming.tell, []

    def slowly(joining):
        time.sleep(0.02)  # so that the reply would take nine seconds
        return step(joining)

    def noted(coming, what):
        told.append(what)
        tell(coming, what)

    monkeypatch.setattr(Joining, "step", slowly)
    monkeypatch.setattr(Coming, "tell", noted)
    body = {"model": "tiny", "messages": ASKED, "max_tokens": 450, "stream": stream, "temperature": 0.1}
    with httpx.Client(timeout=0.3) as one:
        try:
            with one.stream("POST", f"{server.url}/v1/chat/completions", json=body) as answer:
                next(answer.iter_lines())
        except httpx.ReadTimeout:
            pass
    settled(batching)
    assert [one.finish for one in told if isinstance(one, Completion)] == ["cancelled"]


def test_many_ask_at_once_and_get_what_each_would_get_alone(local, client):
    def ask(number, found):
        asked = {"model": "tiny", "messages": [{"role": "user", "content": f"Say {number}"}], "seed": number}
        found[number] = client.chat.completions.create(**asked, max_tokens=20, temperature=0.5 + number / 10)

    found = {}
    threads = [threading.Thread(target=ask, args=(number, found)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        (alone,) = local(
            [Conversation((Message("user", f"Say {number}"),))],
            sampling=Sampling(temperature=0.5 + number / 10, max_new=20), seed=number,
        )  # fmt: skip
        assert found[number].choices[0].message.content == alone.message.content


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "/etc/hostname"}},
        {"type": "image_url", "image_url": "file:///etc/hostname"},
        {"type": "image", "path": "/etc/hostname"},
        {"type": "image", "image": "~/.ssh/id_rsa"},
    ],
)
def test_no_file_of_the_server_is_read_for_who_asks(client, part):
    with pytest.raises(openai.BadRequestError, match=r"messages\[0\]: an image comes in the request"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [part]}])
