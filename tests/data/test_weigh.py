"""What learns: policies, weights of messages and spans, and tokens that belong to neither side of a
border."""

from dataclasses import replace
from functools import cache

import pytest

from turnsmith.data.render import Renderer
from turnsmith.data.weigh import policy
from turnsmith.errors import RenderError
from turnsmith.testing import builders, chat, tokenizer
from turnsmith.types import Call, Conversation, Message, Span

TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' + (c.function | tojson) + '\n</tool_call>' "
    "}}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}"
)
TALK = chat("s: Be kind.", "u: Hi", "a: Hello", "u: Add", "a: Sum", "a: Three")
CALL = Call("add", {"a": 1})
CALLING = Conversation(
    (
        Message("user", "Add"),
        Message("assistant", "Well.", calls=(CALL,)),
        Message("tool", "3"),
        Message("assistant", "Three"),
    ),
    ({"type": "function", "function": {"name": "add"}},),
)
made = cache(lambda template=builders.CHATML: Renderer(tokenizer(template)))


def learnt(conversation, train="assistant", template=builders.CHATML):
    """The text of all that learns, and how much was masked at borders."""
    [tokens] = made(template).render(conversation, train)
    return tokenizer().decode(tokens.inputs[tokens.weights > 0]), tokens.crossing


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("assistant", "Hello<|im_end|>Sum<|im_end|>Three<|im_end|>"),
        ("last", "Three<|im_end|>"),
        ("turn", "Sum<|im_end|>Three<|im_end|>"),
        ("user", "Hi<|im_end|>Add<|im_end|>"),
    ],
)
def test_a_policy_says_which_messages_learn(train, expected):
    assert learnt(TALK, train) == (expected, 0)


def test_where_all_learns_only_the_first_token_does_not():
    text = "".join(f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in TALK.messages)
    assert learnt(TALK, "all") == (text.removeprefix("<|im_start|>"), 0)


def test_where_all_learns_a_message_may_say_that_it_does_not():
    quiet = replace(TALK.messages[1], weight=0.0)
    found, _ = learnt(Conversation((TALK.messages[0], quiet, *TALK.messages[2:])), "all")
    assert "user\n\n<|im_start|>assistant\nHello<|im_end|>" in found


def test_where_calls_learn_nothing_else_does():
    written = '\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
    assert learnt(CALLING, "calls", TOOLS) == (written, 0)
    assert learnt(CALLING, "assistant", TOOLS)[0] == f"Well.{written}Three<|im_end|>"


def test_a_call_without_words_learns_whole():
    silent = replace(CALLING.messages[1], content="")
    found, _ = learnt(replace(CALLING, messages=(CALLING.messages[0], silent)), "calls", TOOLS)
    assert found == '\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'


def test_a_tools_answer_may_learn():
    loud = replace(CALLING.messages[2], weight=0.5)
    [tokens] = made(TOOLS).render(
        replace(CALLING, messages=(*CALLING.messages[:2], loud, CALLING.messages[3]))
    )
    assert tokenizer().decode(tokens.inputs[tokens.weights == 0.5]) == "3<|im_end|>"
    assert set(tokens.turns[tokens.weights == 0.5]) == {2}


def test_the_policy_gives_way_to_a_message_of_its_own_mind():
    messages = (
        replace(TALK.messages[1], weight=2.0),
        replace(TALK.messages[2], weight=0.0),
        TALK.messages[4],
    )
    assert policy(Conversation(messages), "assistant") == [2.0, 0.0, 1.0]


# -------------------------------------------------------------------------------------- spans and borders
# "Hello there, how" is Hell|o|Ġthe|re|,|Ġho|w: characters 0-4, 4-5, 5-9, 9-11, 11-12, 12-15, 15-16.

HELLO = "Hello there, how"
TRIMMED = builders.CHATML.replace("message['content']", "message['content'] | trim")


def words(text):
    return tokenizer()(text, add_special_tokens=False)["input_ids"]


def spanned(*spans, template=builders.CHATML, text=HELLO):
    conversation = chat("u: Hi").then(Message("assistant", text, spans=tuple(Span(*span) for span in spans)))
    [tokens] = made(template).render(conversation)
    assert tokenizer().convert_ids_to_tokens(words(HELLO)) == ["Hell", "o", "Ġthe", "re", ",", "Ġho", "w"]
    return tokens.weights[tokens.turns == 1].tolist()


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 5, 0.5)], [0.5, 0.5, 1, 1, 1, 1, 1]),
        ([(5, 12, 0.0)], [1, 1, 0, 0, 0, 1, 1]),
        ([(0, 7, 0.5)], [0.5, 0.5, 0, 1, 1, 1, 1]),  # " the" lies across the border
        ([(0, 7, 0.5), (7, 11, 2.0)], [0.5, 0.5, 0, 2, 1, 1, 1]),
        ([(6, 8, 3.0)], [1, 1, 0, 1, 1, 1, 1]),
    ],
)
def test_spans_weigh_the_tokens_wholly_inside(spans, expected):
    assert spanned(*spans) == [*expected, 1, 0]  # the stop token keeps the message's weight


def test_spans_count_characters_before_a_template_strips_them():
    assert spanned((2, 7, 0.5), template=TRIMMED, text=f"  {HELLO} ") == [0.5, 0.5, 1, 1, 1, 1, 1, 1, 0]


def test_spans_of_a_sampled_message_are_refused():
    message = Message("assistant", "Hello", spans=(Span(0, 2, 0.0),), ids=tuple(words("Hello")))
    with pytest.raises(RenderError, match="weigh it as a whole"):
        made().render(chat("u: Hi").then(message))


@pytest.mark.parametrize(
    ("spans", "crossing"),
    [
        ([], 0),
        ([(0, 5, 0.5)], 0),  # ends between two tokens
        ([(0, 7, 0.5)], 1),  # ends inside " the"
        ([(6, 8, 3.0)], 1),  # lies inside " the": one token, two borders
        ([(2, 7, 0.5)], 2),  # begins inside "Hell" and ends inside " the"
    ],
)
def test_tokens_across_a_border_are_masked_and_counted(spans, crossing):
    answer = Message("assistant", "Hello there, how", spans=tuple(Span(*span) for span in spans))
    [tokens] = made().render(chat("u: Hi").then(answer))
    assert tokens.crossing == crossing
    assert sum(tokens.weights[tokens.turns == 1][:7] == 0) == crossing


def test_spans_count_the_characters_of_what_was_written_special_tokens_included():
    text = "<|im_end|> Hello there"
    answer = Message("assistant", text, spans=(Span(10, 16, 0.0),))  # " Hello"
    [tokens] = made().render(chat("u: Hi").then(answer))
    zero = tokens.inputs[(tokens.weights == 0) & (tokens.turns == 1)]
    assert tokenizer().decode(zero) == " Hello\n"  # the newline comes after the turn


def test_a_user_message_may_have_spans():
    asked = Message("user", "Hello there", spans=(Span(0, 5, 1.0),))
    found, _ = learnt(Conversation((asked, Message("assistant", "Hi", weight=0.0))))
    assert found == "Hello"


def test_what_was_sampled_has_no_calls_to_tell_apart():
    sampled = Message("assistant", "x", calls=(CALL,), ids=(5, 6))
    with pytest.raises(RenderError, match="message 1 of example 'r' was sampled as ids: weigh it as a whole"):
        made(TOOLS).render(Conversation((CALLING.messages[0], sampled), CALLING.tools), "calls", name="r")


# ------------------------------------------------------------------------------------- what has no place


@pytest.mark.parametrize(
    ("conversation", "words"),
    [
        (CALLING, "example 'r' has tools, and this chat template does not show tools"),
        (
            replace(CALLING, tools=()),
            "message 1 of example 'r' calls tools, and this chat template has no calls",
        ),
    ],
    ids=["tools", "calls"],
)
def test_what_a_template_has_no_place_for_is_refused_and_never_left_out(conversation, words):
    with pytest.raises(RenderError, match=words):
        made().render(conversation, name="r")
    with pytest.raises(RenderError, match=words):
        made().prompt(conversation.upto(3), "r")


def test_a_template_that_leaves_out_a_role_is_refused_where_it_is_used():
    deaf = builders.CHATML.replace(
        "{% for message in messages %}", "{% for message in messages if message.role != 'tool' %}"
    )
    said = Conversation((*chat("u: Hi").messages, Message("tool", "Noise"), *chat("a: Yes").messages))
    with pytest.raises(RenderError, match=r"leaves out what message 1 of example 'r' \(role tool\) says"):
        made(deaf).render(said, name="r")


def test_thoughts_stand_before_what_is_said_where_they_have_no_place_of_their_own():
    thought = Message("assistant", "Yes.", thinking="Hm.")
    assert learnt(chat("u: Hi").then(thought))[0] == "<think>\nHm.\n</think>\n\nYes.<|im_end|>"
