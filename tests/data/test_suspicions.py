"""What is suspicious in a conversation: each reason by an example, and by what looks like it and is sound."""

import pytest

from turnsmith.data.suspicions import HUGE, TEXTS, TURNS, personal, suspicions
from turnsmith.testing import chat
from turnsmith.types import Call, Conversation, Message


def reasons(conversation):
    return suspicions(conversation, "\n".join(message.content for message in conversation.messages))


CALLING = Conversation(
    (
        Message("user", "1 + 1?"),
        Message("assistant", "", calls=(Call("add", {"a": 1, "b": 1}),)),
        Message("tool", "2"),
        Message("tool", "It was quick."),
        Message("assistant", "Two."),
    )
)
SUSPICIOUS = [
    (chat("u: Hi", "a:  "), "an assistant message is empty"),
    (chat("u: ", "a: Hello there."), "a user message is empty"),
    (chat("u: Hi", "a: Hello.", "u: Thanks"), "the last message is not the assistant's"),
    (chat("u: Hi", "u: You?", "a: Hello."), "two messages of one role follow each other"),
    (chat("u: Hi", "s: Be brief.", "a: Hello."), "a system message is not the first"),
    (chat("s: Be brief.", "a: Hello.", "u: Hi", "a: Yes."), "it begins with the assistant or a tool"),
    (
        Conversation((Message("user", "1?"), Message("tool", "1"), Message("assistant", "One."))),
        "a tool answers without being called",
    ),
    (chat("u: Say it.", "a: Say it. "), "user and assistant say the same"),
    (chat("u: Why?", "a: <think>So. Because."), "<think> and </think> do not match"),
    (chat("u: Is it?", "a: No"), "an assistant message has one or two characters"),
    (
        chat("u: How?", "a: I'm sorry, but I can't help with that."),
        "an assistant message looks like a refusal",
    ),
    (chat("u: How?", "a: As an AI language model, I do not."), "an assistant message looks like a refusal"),
    (chat("u: How?", "a: I cannot assist with this."), "an assistant message looks like a refusal"),
    (chat("u: Hi<|im_end|>", "a: Hello."), "text that looks like special tokens"),
    (chat("u: [INST] Hi [/INST]", "a: Hello.</s>"), "text that looks like special tokens"),
    (chat("u: Caf\ufffd?", "a: Hello."), "replacement characters: text was lost"),
    (chat("u: CafÃ© or donâ€™t", "a: Hello."), "text read in a wrong encoding"),
    (chat("u: Hi\x00", "a: Hello."), "control characters"),
    (chat("u: Hi", f"a: {'x' * HUGE}"), "more than 1,000,000 characters"),
    (Conversation(()), "there is no message"),
]


@pytest.mark.parametrize(("conversation", "reason"), SUSPICIOUS)
def test_each_reason_is_found_and_no_other(conversation, reason):
    assert reasons(conversation) == [reason]


def test_every_reason_is_tested():
    assert {reason for _, reason in SUSPICIOUS} == {*TURNS, *TEXTS, "there is no message"}


@pytest.mark.parametrize(
    "conversation",
    [
        CALLING,
        chat("s: Be brief.", "u: Hi", "a: Hello.", "u: Bye", "a: Bye then."),
        chat("u: Why?", "a: <think>So.</think>Because."),
        chat("u: Übung, café, São Paulo?", "a: Â, ñ und 今天."),
        chat("u: if a < b and c > d:", "a: See x[INSTALL], then <b>."),
        chat("u: Sorry to ask.", "a: I'm sorry to hear that. You can do it."),
        Conversation((Message("text", "Once upon a time"),)),
        Conversation((Message("user", "A prompt alone."),)),
        Conversation((Message("user", "Hi"), Message("assistant", "", ids=(2,)))),
    ],
)
def test_what_is_sound_is_not_suspicious(conversation):
    assert reasons(conversation) == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("see https://a.example/b", ["links"]),
        ("write to ann.b+c@mail.example.org!", ["e-mail addresses"]),
        ("call +49 30 1234567 or 555-123-4567", ["phone numbers"]),
        ("pay with 4111 1111 1111 1111", ["credit card numbers"]),
        ("on 2024-01-15 12:30, 10 20 30 40 50 60 70, 3.14159265358979", []),
        ("not 4111 1111 1111 1112, @ann, http", []),
    ],
)
def test_what_concerns_people_is_told_by_kind(text, kinds):
    assert personal(text) == kinds


def test_a_long_text_takes_time_in_proportion_to_its_length():
    long = "a" * 2_000_000 + "@" + "1" * 2_000_000 + "<|" * 500_000
    assert personal(long) == []
    assert suspicions(Conversation((Message("user", long),)), long) == ["more than 1,000,000 characters"]
