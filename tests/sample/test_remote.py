"""A chat over a server: what is asked, what comes of replies and of trouble, and what is not asked again."""

import asyncio
import json
import time

import pytest

from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.models.endpoint import endpoint
from turnsmith.sample.remote import RemoteChat
from turnsmith.sample.talk import Talk
from turnsmith.testing import chat
from turnsmith.testing.server import (
    breaks_off,
    chunk,
    is_silent,
    never_ends,
    reply,
    resets,
    says,
    serving,
    streams,
)
from turnsmith.types import Call, Conversation, Failure, Message, Sampling, Usage

HI = chat("u: Hi")


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    """No proxy stands between the tests and their server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def asking(server, tmp_path):
    """Makes a chat of the server that waits for next to nothing."""

    def make(options="", **more):
        reference = f"{server.url}#some/model?wait=0.001&tries=3{options and '&'}{options}"
        return RemoteChat(endpoint(reference), tmp_path / "replies", **more)

    return make


def alone(replies):
    (found,) = replies
    return found


# --------------------------------------------------------------------------------------- what is asked


def test_the_request_says_model_messages_and_sampling(server, asking):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    asked = Conversation(
        (
            Message("user", "Hi", weight=0.5, fields={"mood": "good"}),
            Message("assistant", "", thinking="hm", calls=(Call("look", {"at": "sea"}, "c1"),)),
            Message("tool", "blue", call_id="c1"),
        ),
        (tool,),
    )
    asking()([asked], sampling=Sampling(temperature=0.5, top_p=0.9, max_new=33))
    (body,) = server.asked
    seed = body.pop("seed")
    assert 0 <= seed < 2**31
    assert body == {
        "model": "some/model",
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function",
                "function": {"name": "look", "arguments": '{"at": "sea"}'}}]},
            {"role": "tool", "content": "blue", "tool_call_id": "c1"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 33,
        "tools": [tool],
    }  # fmt: skip


PLAIN = {
    "model": "some/model",
    "messages": [{"role": "user", "content": "Hi"}],
    "temperature": 1.0,
    "max_tokens": 128,
}
OFF = {
    "openai": {},
    "vllm": {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0.0,
        "presence_penalty": 0.0},
    "llamacpp": {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repeat_last_n": -1,
        "frequency_penalty": 0.0, "presence_penalty": 0.0,
        "samplers": ["penalties", "temperature", "top_k", "top_p", "min_p"]},
}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize(
    ("kind", "sampling", "more"),
    [
        ("openai", {}, {}),
        ("openai", {"frequency_penalty": 0.5, "stop": ("a", "b")},
            {"frequency_penalty": 0.5, "stop": ["a", "b"]}),
        ("openai", {"presence_penalty": -1.0, "schema": SCHEMA},
            {"presence_penalty": -1.0, "response_format": FORMAT}),
        ("vllm", {}, {}),
        ("vllm", {"top_k": 5, "min_p": 0.1, "top_p": 0.9}, {"top_k": 5, "min_p": 0.1, "top_p": 0.9}),
        ("vllm", {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.25},
            {"repetition_penalty": 1.2, "frequency_penalty": 0.5, "presence_penalty": 0.25}),
        ("vllm", {"min_new": 4}, {"min_tokens": 3}),  # vLLM does not count the token that ends the reply
        ("vllm", {"min_new": 1, "stop": ("x",) * 5}, {"stop": ["x"] * 5}),
        ("vllm", {"schema": SCHEMA}, {"response_format": FORMAT}),
        ("vllm", {"grammar": "start: \"a\""}, {"structured_outputs": {"grammar": "start: \"a\""}}),
        ("llamacpp", {}, {}),
        ("llamacpp", {"top_k": 5, "min_p": 0.1, "top_p": 0.9, "repetition_penalty": 1.2, "stop": ("x",)},
            {"top_k": 5, "min_p": 0.1, "top_p": 0.9, "repeat_penalty": 1.2, "stop": ["x"]}),
        ("llamacpp", {"schema": SCHEMA}, {"json_schema": SCHEMA}),
    ],
)  # fmt: skip
def test_each_server_is_asked_in_its_own_spelling(server, asking, kind, sampling, more):
    asking(f"server={kind}")([HI], sampling=Sampling(**sampling))
    (body,) = server.asked
    del body["seed"]
    assert body == {**PLAIN, **OFF[kind], **more}


def test_a_prefill_is_a_message_to_go_on_with_and_the_reply_begins_so(server, asking):
    server.usual = says(reply("Bergen."))
    by = asking("server=vllm", sampling=Sampling(prefill="It is "))
    first = alone(by([HI])).message.content
    assert (first, alone(by([HI])).message.content) == ("It is Bergen.",) * 2  # the second is recorded
    (body,) = server.asked
    assert body["messages"] == [*PLAIN["messages"], {"role": "assistant", "content": "It is "}]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize(
    ("kind", "sampling", "words"),
    [
        ("openai", {"top_k": 5, "min_p": 0.1}, "some/model is asked for min_p, top_k, which OpenAI's"),
        ("openai", {"top_k": 5}, "or vLLM's server (server=vllm) or llama.cpp's server (server=llamacpp)"),
        ("openai", {"stop": ("a", "b", "c", "d", "e")}, "5 texts, and OpenAI's protocol allows 4"),
        ("openai", {"prefill": "So"}, "asked for prefill"),
        ("llamacpp", {"grammar": "start: \"a\""}, "asked for grammar, which llama.cpp's server"),
        ("llamacpp", {"presence_penalty": 1.0}, "asked for presence_penalty"),  # it would count the prompt
    ],
)  # fmt: skip
def test_what_a_server_lacks_is_refused_before_anything_is_sent(server, asking, kind, sampling, words):
    by = asking(f"server={kind}")
    for ask in (
        lambda: by([HI], sampling=Sampling(**sampling)),
        lambda: by.stream(HI, sampling=Sampling(**sampling)),
        lambda: asking(f"server={kind}", sampling=Sampling(**sampling)),
    ):
        with pytest.raises(UsageError) as error:
            ask()
        assert words in str(error.value)
    assert server.asked == []


def test_the_limit_may_have_another_name_and_a_system_text_stand_in_front(server, asking):
    asking("limit=max_completion_tokens", system="Be kind.")([HI], sampling=Sampling(max_new=5))
    (body,) = server.asked
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}


def test_equal_conversations_of_one_call_are_asked_with_seeds_of_their_own(server, asking):
    asking()([HI, HI], seed=1)
    asking()([HI], seed=2)
    assert len({body["seed"] for body in server.asked}) == 3


def test_seeds_that_are_given_are_those_that_are_sent(server, asking):
    replies = asking().by_seeds([HI, Conversation(()), chat("u: 2")], seeds=[5, 6, 2**31 + 7])
    assert isinstance(replies[1], Failure)
    sent = {body["messages"][-1]["content"]: body["seed"] for body in server.asked}
    assert sent == {HI.messages[-1].content: 5, "2": 7}  # 31 bits, which fit all servers


def test_no_more_conversations_are_asked_at_once_than_allowed(server, asking):
    def slowly(handler, asked):
        deadline = time.monotonic() + 5
        while server.most < 3 and time.monotonic() < deadline:
            time.sleep(0.002)  # three meet here, however slow the machine is
        time.sleep(0.02)  # and a fourth would be seen
        says(reply())(handler, asked)

    server.usual = slowly
    asking("parallel=3")([chat(f"u: {n}") for n in range(9)])
    assert server.most == 3


def test_the_key_goes_into_the_header_and_nowhere_else(server, asking, monkeypatch, tmp_path):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    server.behaviours.append(says({"error": "bad request with sk-very-secret"}, 400))
    failed, _ = asking("key=MY_KEY&parallel=1")([HI, chat("u: Ho")])
    assert server.keys == ["Bearer sk-very-secret"] * 2
    assert failed == Failure('400 Bad Request: {"error": "bad request with (the key)"}')
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert written
    assert b"sk-very-secret" not in written


def test_a_key_that_is_not_there_is_asked_for(asking, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UsageError, match="MY_KEY"):
        asking("key=MY_KEY")([HI])


# --------------------------------------------------------------------------------- what comes of replies


def test_a_reply_has_its_words_its_end_and_its_tokens(server, asking):
    server.usual = says(reply("Well.", "length", (20, 5)))
    found = alone(asking()([HI]))
    assert (found.message, found.finish, found.usage) == (
        Message("assistant", "Well."), "length", Usage(20, 5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "finish"),
    [("stop", "stop"), ("tool_calls", "stop"), ("eos_token", "stop"), ("max_tokens", "length")],
)
def test_ends_have_other_names_elsewhere(server, asking, given, finish):
    server.usual = says(reply(finish=given))
    assert alone(asking()([HI])).finish == finish


def test_calls_and_reasoning_are_read(server, asking):
    call = {"id": "c9", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    server.usual = says(reply(None, "tool_calls", tool_calls=[call], reasoning_content="I should look."))
    said = alone(asking()([HI])).message
    assert said == Message("assistant", "", calls=(Call("look", {"at": 1}, "c9"),), thinking="I should look.")


@pytest.mark.parametrize(
    ("content", "thinking", "said"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes."),
        ("Hm.</think>Yes.", "Hm.", "Yes."),  # the template had opened it
        ("<think>Hm, that is", "Hm, that is", ""),  # cut
        ("Think <think> of it.", None, "Think <think> of it."),
    ],
)
def test_thoughts_that_a_server_leaves_in_the_content_are_taken_out(server, asking, content, thinking, said):
    server.usual = says(reply(content))
    message = alone(asking()([HI])).message
    assert (message.thinking, message.content) == (thinking, said)


def test_what_cannot_be_answered_is_a_failure_and_not_asked(server, asking):
    given = [Conversation(()), chat("u: Hi", "a: Ho"), HI, Conversation((Message("text", "raw"),))]
    found = asking()(given)
    assert [isinstance(one, Failure) for one in found] == [True, True, False, True]
    assert len(server.asked) == 1


def test_tokens_are_summed_and_paid_for(server, asking):
    server.behaviours += [
        says(reply(usage=(1000, 200))),
        says(reply(usage=(3000, 300))),
        says(reply(usage=None)),
    ]
    by = asking("price=2,10&parallel=1")
    by([HI, chat("u: Ho"), chat("u: Ha")])
    spent = by.settle()
    assert (spent.asked, spent.prompt, spent.completion, spent.unmetered) == (3, 4000, 500, 1)
    assert spent.cost == pytest.approx(4000 * 2e-6 + 500 * 10e-6, rel=1e-12)
    assert (by.spent.asked, by.spent.cost) == (0, 0.0)


def test_without_a_price_there_is_no_cost(asking):
    by = asking()
    by([HI])
    assert by.spent.cost is None


# --------------------------------------------------------------------------------- what comes of trouble


@pytest.mark.parametrize(
    "trouble",
    [
        says({"error": "slow down"}, 429, Retry_After="0"),
        says({"error": "slow down"}, 429, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"),
        says(b"oops", 500),
        says(b"", 503),
        says(b"{not json"),
        says({"choices": []}),
        says({"error": {"message": "overloaded"}}),
        says([1, 2]),
        says({"choices": [{"message": None, "finish_reason": "stop"}]}),
        says(reply(content=5)),
        says(reply(finish=None)),
        breaks_off,
        resets,
    ],
    ids=[
        "slow down",
        "slow down until a day",
        "500",
        "503",
        "no JSON",
        "no choices",
        "an error",
        "a list",
        "no message",
        "a number",
        "no reason",
        "breaks off",
        "resets",
    ],
)
def test_trouble_that_passes_is_got_over(server, asking, trouble):
    server.behaviours.append(trouble)
    by = asking()
    assert alone(by([HI])).message.content == "Hello."
    assert len(server.asked) == 2
    assert by.spent.retries == 1


def test_after_the_last_try_the_reason_is_said_and_the_others_are_untouched(server, asking):
    def usual(handler, asked):
        bad = asked["messages"][-1]["content"] == "bad"
        says({"error": "boom"}, 500)(handler, asked) if bad else says(reply())(handler, asked)

    server.usual = usual
    found = asking()([HI, chat("u: bad"), chat("u: Ho")])
    assert found[1] == Failure('500 Internal Server Error: {"error": "boom"} (3 tries)')
    assert [one.message.content for one in (found[0], found[2])] == ["Hello."] * 2
    assert len(server.asked) == 2 + 3


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_that_cannot_change_is_not_tried_again(server, asking, status):
    server.usual = says({"error": "too long"}, status)
    assert f"{status} " in alone(asking()([HI])).reason
    assert len(server.asked) == 1


def test_what_a_filter_withholds_is_a_failure(server, asking):
    server.usual = says(reply("", "content_filter"))
    assert alone(asking()([HI])) == Failure("the server's filter withheld the reply")
    assert len(server.asked) == 1


def test_a_wrong_key_is_an_error_at_once_and_names_the_variable(server, asking, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    server.usual = says({"error": "Incorrect API key provided: sk-wrong"}, 401)
    with pytest.raises(ModelError, match="look at the key in MY_KEY: 401") as error:
        asking("key=MY_KEY&parallel=1")([chat(f"u: {n}") for n in range(20)])
    assert "sk-wrong" not in str(error.value)
    assert len(server.asked) == 1


def test_a_model_that_is_not_there_is_an_error(server, asking):
    server.usual = says({"error": "no such model"}, 404)
    with pytest.raises(ModelError, match="the URL or the model 'some/model': 404"):
        asking()([HI])


def test_a_server_that_is_not_there_is_an_error(tmp_path):
    with serving() as gone:
        url = gone.url
    with pytest.raises(ModelError, match=r"cannot be reached: .* \(2 tries\)\. Is the server running"):
        RemoteChat(endpoint(f"{url}#m?wait=0.001&tries=2"), tmp_path)([HI])


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for(server, asking):
    server.usual = says({"error": "tomorrow"}, 429, Retry_After="86400")
    assert alone(asking("longest=0.01")([HI])).reason.endswith("(asks to wait 86,400 s)")
    assert len(server.asked) == 1


def test_the_pause_that_a_server_asks_for_is_kept(server, asking):
    server.behaviours.append(says({}, 429, Retry_After="0.05"))
    started = time.monotonic()
    asking()([HI])
    assert time.monotonic() - started >= 0.05


@pytest.mark.parametrize(
    "behaviour",
    [
        is_silent,
        never_ends(b" ", 0.005),
        never_ends(b"x", 0.005, header=True),
    ],
    ids=["silent", "a body without end", "a header without end"],
)
def test_what_never_ends_is_bounded_by_time(server, asking, behaviour):
    server.usual = behaviour
    found = alone(asking("seconds=0.05&tries=2")([HI]))
    assert found == Failure("no whole reply came within 0.05 s (2 tries)")


def test_what_never_ends_is_bounded_by_size(server, asking):
    server.usual = never_ends(b'{"choices": [' + b" " * 4096)
    assert alone(asking("bytes=20000")([HI])) == Failure("the reply has more than 20,000 bytes")
    assert len(server.asked) == 1


# ------------------------------------------------------------------------------------- what is recorded


def test_a_second_run_asks_nothing_and_gives_the_same(server, asking):
    server.usual = says(lambda asked: reply(f"You said {asked['messages'][-1]['content']} \ud800."))
    given = [HI, chat("u: Ho"), HI]
    first = asking()(given)
    by = asking()
    assert by(given) == first
    assert len(server.asked) == 3
    assert (by.spent.asked, by.spent.recorded) == (0, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"sampling": Sampling(temperature=0.1)},
        {"sampling": Sampling(max_new=4)},
        {"sampling": Sampling(top_p=0.5)},
        {"sampling": Sampling(stop=("END",))},
        {"sampling": Sampling(frequency_penalty=0.1)},
        {"sampling": Sampling(schema={})},
        {"seed": 1},
    ],
)
def test_what_is_asked_otherwise_is_asked(server, asking, other):
    asking()([HI])
    asking()([HI], **other)
    assert len(server.asked) == 2


def test_replies_of_earlier_versions_are_found(tmp_path):
    # As they were recorded when there was nothing but temperature, top_p, top_k and max_new.
    records, one = tmp_path / "replies", endpoint("http://127.0.0.1:9/v1#some/model")
    records.mkdir()
    rows = [
        ("bb1faeda12cb56f8cbb5", Sampling(), "one"),
        ("f3ded0b74890b448deea", Sampling(temperature=0.0, max_new=4), "two"),
        ("396127d6aa9dcd17b912", Sampling(temperature=0.7, top_p=0.95, max_new=256), "three"),
    ]
    with (records / f"{one.fingerprint}.jsonl").open("w") as file:
        for key, _, text in rows:
            said = {"choice": reply(text)["choices"][0], "usage": None}
            file.write(json.dumps({"key": key, "asked": {}, "said": said}) + "\n")
    by = RemoteChat(one, records)
    for _, sampling, text in rows:
        assert alone(by([chat("s: Be kind.", "u: Hi")], sampling=sampling, seed=3)).message.content == text


def test_another_version_asks_anew(server, asking):
    asking()([HI])
    asking("version=2")([HI])
    assert len(server.asked) == 2


def test_only_what_was_not_answered_is_asked_again(server, asking):
    server.behaviours += [says(reply("one")), says({}, 400), says(reply("three"))]
    given = [HI, chat("u: Ho"), chat("u: Ha")]
    first = asking("parallel=1")(given)
    assert isinstance(first[1], Failure)
    again = asking()(given)
    assert (again[0], again[2]) == (first[0], first[2])
    assert again[1].message.content == "Hello."
    assert len(server.asked) == 4


def test_a_line_that_a_kill_tore_is_asked_again_and_harms_no_other(server, asking, tmp_path):
    asking("parallel=1")([HI, chat("u: Ho")])
    (file,) = (tmp_path / "replies").glob("*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    found = asking()([HI, chat("u: Ho"), chat("u: Ha")])
    assert not any(isinstance(one, Failure) for one in found)
    assert len(server.asked) == 4
    by = asking()
    assert by([HI, chat("u: Ho"), chat("u: Ha")]) == found
    assert len(server.asked) == 4


# ------------------------------------------------------------------------------------------- in pieces


def pieces(stream):
    """The pieces, and the reply that the generator gives."""
    found = []
    while True:
        try:
            found.append(next(stream))
        except StopIteration as end:
            return found, end.value


USAGE = {"choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 3}}


def test_a_reply_comes_in_pieces_and_is_recorded_as_a_whole_one(server, asking):
    server.usual = streams(chunk("", role="assistant"), "Hel", "lo ü", chunk(".", "stop"), USAGE)
    by = asking()
    found, said = pieces(by.stream(HI, seed=4))
    assert found == ["Hel", "lo ü", "."]
    assert (said.message, said.finish, said.usage) == (
        Message("assistant", "Hello ü."), "stop", Usage(11, 3),
    )  # fmt: skip
    assert alone(by([HI], seed=4)) == said
    assert pieces(by.stream(HI, seed=4)) == (["Hello ü."], said)
    (body,) = server.asked
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    assert (by.spent.asked, by.spent.recorded, by.spent.completion) == (1, 2, 3)


def test_what_was_answered_whole_is_streamed_from_the_records(server, asking):
    by = asking()
    said = alone(by([HI]))
    assert pieces(by.stream(HI)) == (["Hello."], said)
    assert len(server.asked) == 1


def test_calls_and_thoughts_come_in_pieces_too(server, asking):
    named = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at"'}}
    on = {"index": 0, "function": {"arguments": ': "sea"}'}}
    server.usual = streams(
        chunk(reasoning_content="I should "), chunk(reasoning_content="look."), "Well.",
        chunk(tool_calls=[named]), chunk(tool_calls=[on]), chunk(finish="tool_calls"), end=b"\r\n\r\n",
    )  # fmt: skip
    found, said = pieces(asking().stream(HI))
    assert found == ["Well.", '\nlook({"at": "sea"})']
    call = Call("look", {"at": "sea"}, "c1")
    assert said.message == Message("assistant", "Well.", calls=(call,), thinking="I should look.")


def test_a_prefill_is_shown_before_the_first_words(server, asking):
    server.usual = streams("Ber", chunk("gen.", "stop"))
    found, said = pieces(asking("server=vllm").stream(HI, sampling=Sampling(prefill="In ")))
    assert (found, said.message.content) == (["In Ber", "gen."], "In Bergen.")


@pytest.mark.parametrize(
    "trouble",
    [
        streams("Hel", "lo", done=False),
        streams("Hel", "lo"),  # an end without a reason is none
        streams("Hello", {"error": {"message": "out of memory"}}),
        streams("Hello", [1]),
        streams("Hello", {"choices": [{"delta": 3}]}),
        streams("Hello", chunk(finish="content_filter")),
    ],
    ids=["the connection", "no reason", "an error", "no object", "no delta", "a filter"],
)
def test_a_stream_that_breaks_off_says_so_and_is_not_recorded(server, asking, trouble):
    server.behaviours.append(trouble)
    by, shown = asking(), []
    with pytest.raises(DataError, match=r"broke off after 5 characters: .* It is not recorded: ask again"):
        shown += by.stream(HI)
    assert len(server.asked) == 1
    server.usual = streams(chunk("Now.", "stop"))
    assert pieces(by.stream(HI))[0] == ["Now."]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "trouble", [says({}, 503), says({}, 429, Retry_After="0"), resets, streams(done=False)]
)
def test_what_has_not_begun_is_tried_again(server, asking, trouble):
    server.behaviours.append(trouble)
    server.usual = streams(chunk("Now.", "stop"))
    by = asking()
    assert pieces(by.stream(HI))[0] == ["Now."]
    assert by.spent.retries == 1


def test_a_refusal_is_an_error_that_repeats_no_key(server, asking, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    server.usual = says({"error": "no sk-wrong here"}, 400)
    with pytest.raises(DataError, match=r"^400 Bad Request: .*no \(the key\) here"):
        list(asking("key=MY_KEY").stream(HI))
    server.usual = says({"error": "no"}, 401)
    with pytest.raises(ModelError, match="look at the key in MY_KEY"):
        list(asking("key=MY_KEY").stream(HI))


def test_a_stream_that_is_closed_closes_the_connection(server, asking):
    server.usual = streams("Hel", *["lo"] * 5000, before=lambda number: time.sleep(0.001 if number else 0))
    stream = asking().stream(HI)
    assert next(stream) == "Hel"
    stream.close()
    assert server.left.wait(60)


def test_a_stream_is_bounded_by_time_and_size(server, asking):
    server.usual = streams("Hel", "lo", before=lambda number: server.over.wait(60 if number else 0))
    with pytest.raises(DataError, match="after 3 characters: no whole reply came within 1 s"):
        list(asking("seconds=1&tries=1").stream(HI))
    server.usual = streams("x" * 30000)
    with pytest.raises(DataError, match="the reply has more than 20,000 bytes"):
        list(asking("bytes=20000").stream(HI))


def test_a_server_that_is_not_there_cannot_stream(tmp_path):
    with serving() as gone:
        url = gone.url
    with pytest.raises(ModelError, match=r"cannot be reached: .* \(2 tries\)"):
        list(RemoteChat(endpoint(f"{url}#m?wait=0.001&tries=2"), tmp_path).stream(HI))


# ------------------------------------------------------------------------------------------- token ids

TOKENS = {"token_ids": [5, 6], "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}]}}


def with_ids(said):
    said["choices"][0] |= TOKENS
    return said


def test_ids_and_log_probs_are_kept_where_they_are_asked_for(server, asking):
    server.usual = says(with_ids(reply()))
    by = asking("server=vllm&ids=true")
    for temperature, logprobs in ((1.0, (-0.5, -0.25)), (0.0, (-0.5, -0.25)), (0.7, None)):
        said = alone(by([HI], sampling=Sampling(temperature=temperature))).message
        assert said == Message("assistant", "Hello.", ids=(5, 6), logprobs=logprobs)
    body = server.asked[0]
    assert (body["logprobs"], body["return_token_ids"]) == (True, True)
    assert alone(asking("server=vllm")([HI])).message == Message("assistant", "Hello.")


def test_ids_that_say_more_or_less_than_the_reply_are_not_kept(server, asking):
    server.usual = says(with_ids(reply()))
    by = asking("server=vllm&ids=true")
    for sampling in (Sampling(stop=("x",)), Sampling(prefill="Oh. ")):
        assert alone(by([HI], sampling=sampling)).message.ids is None


def test_ids_of_a_stream_are_those_of_its_pieces(server, asking):
    end = chunk("lo.", "stop")
    end["choices"][0] |= TOKENS
    server.usual = streams("Hel", end)
    _, said = pieces(asking("server=vllm&ids=true").stream(HI))
    assert (said.message.ids, said.message.logprobs) == ((5, 6), (-0.5, -0.25))


def test_a_server_that_gives_no_ids_is_found_out(server, asking):
    assert "no token ids with a log-prob for each" in alone(asking("server=vllm&ids=true")([HI])).reason
    assert len(server.asked) == 1


# ------------------------------------------------------------------------------------------ where it is used


def test_it_works_where_a_loop_is_running_already(asking):
    async def notebook():
        return asking()([HI])

    assert alone(asyncio.run(notebook())).message.content == "Hello."


def test_a_talk_remembers_what_a_server_said(server, asking):
    talk = Talk(asking())
    assert (talk.say("Hi"), talk.say("And?")) == ("Hello.", "Hello.")
    said = [(message["role"], message["content"]) for message in server.asked[1]["messages"]]
    assert said == [("user", "Hi"), ("assistant", "Hello."), ("user", "And?")]
