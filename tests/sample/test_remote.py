"""A chat over a server: what is asked, what comes of replies and of trouble, and what is not asked again."""

import asyncio
import time

import pytest

from turnsmith.errors import ModelError, UsageError
from turnsmith.models.endpoint import endpoint
from turnsmith.sample.remote import RemoteChat
from turnsmith.sample.talk import Talk
from turnsmith.testing import chat
from turnsmith.testing.server import breaks_off, is_silent, never_ends, reply, resets, says, serving
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
    asking()([asked], sampling=Sampling(temperature=0.5, top_p=0.9, top_k=7, max_new=33))
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
        "top_k": 7,
        "max_tokens": 33,
        "tools": [tool],
    }  # fmt: skip


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
        {"sampling": Sampling(top_k=5)},
        {"seed": 1},
    ],
)
def test_what_is_asked_otherwise_is_asked(server, asking, other):
    asking()([HI])
    asking()([HI], **other)
    assert len(server.asked) == 2


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
