"""Replies read back: the notations of calls, thoughts, and what is neither."""

from functools import cache

import pytest

from turnsmith.data import calls
from turnsmith.data.calls import Block, types_of
from turnsmith.data.parse import Grammar
from turnsmith.data.render import Renderer
from turnsmith.testing import chat, tokenizer
from turnsmith.types import Call

RAIN = {
    "type": "function",
    "function": {"name": "rain", "parameters": {"properties": {"city": {"type": "string"}}}},
}
made = cache(lambda: Renderer(tokenizer()))


@pytest.mark.parametrize(
    ("notation", "text", "expected"),
    [
        (calls.tagged_json, '<tool_call>\n{"name": "rain", "arguments": {"d": 3}}\n</tool_call>', {"d": 3}),
        (calls.tagged_json, '<tool_call>{"name": "rain", "arguments": "{\\"d\\": 3}"}</tool_call>', {"d": 3}),
        (calls.bare_json, '{"name": "rain", "parameters": {"d": 3}}', {"d": 3}),
        (
            calls.tagged_xml,
            (
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                ""
                "<tool_call>\n<function=rain>\n<parameter=city>\nOslo\n</parameter>\n<parameter=d>\n3\n</parameter>\n</function>\n</tool_call>"
            ),
            {"city": "Oslo", "d": 3},
        ),
        (
            calls.tagged_pairs,
            "<tool_call>rain\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
            {"city": "Oslo"},
        ),
        (
            calls.python_list,
            "<|tool_call_start|>[rain(city='Oslo', far=true, near=False, no=[null, 1])]<|tool_call_end|>",
            {"city": "Oslo", "far": True, "near": False, "no": [None, 1]},
        ),
        (
            calls.channels,
            ' to=functions.rain<|channel|>commentary json<|message|>{"city": "Oslo"}',
            {"city": "Oslo"},
        ),
        (
            calls.quoted,
            '<|tool_call>call:rain{city:<|"|>a, {b}: "c"<|"|>,d:3,deep:{x:[1,<|"|>y<|"|>]}}<tool_call|>',
            {"city": 'a, {b}: "c"', "d": 3, "deep": {"x": [1, "y"]}},
        ),
        (
            calls.invoked,
            (
                ' to=rain<|message|><atem:function_calls>\n<atem:invoke name="rain">\n'
                '<atem:parameter name="city">Oslo</atem:parameter>\n</atem:invoke>\n</atem:function_calls>'
            ),
            {"city": "Oslo"},
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_notation_is_read_back(notation, text, expected):
    assert notation(text, {}) == [Block(0, len(text), (Call("rain", expected),))]


@pytest.mark.parametrize("notation", calls.NOTATIONS, ids=lambda notation: notation.__name__)
@pytest.mark.parametrize(
    "text",
    [
        "", "It rains.", '{"name": 3}', "<tool_call>no</tool", "<|tool_call_start|>[1]<|tool_call_end|>",
        "<|tool_call_start|>[f(]<|tool_call_end|>", "<|tool_call>call:x{y<tool_call|>", '{"name": "x"}',
    ],
)  # fmt: skip
def test_what_is_no_call_is_none(notation, text):
    assert notation(text, {}) == []


def test_a_schema_tells_a_text_from_a_number():
    text = "<tool_call>rain\n<arg_key>city</arg_key>\n<arg_value>5</arg_value>\n</tool_call>"
    assert calls.tagged_pairs(text, {})[0].calls == (Call("rain", {"city": 5}),)
    assert calls.tagged_pairs(text, types_of([RAIN]))[0].calls == (Call("rain", {"city": "5"}),)


GRAMMAR = Grammar("", "", "<think>\n", ("\n</think>\n\n", "</think>"), None, calls.tagged_json, "\n")
CALL = '<tool_call>{"name": "rain", "arguments": {}}</tool_call>'


@pytest.mark.parametrize(
    ("reply", "thinking", "content", "count"),
    [
        ("Yes.", None, "Yes.", 0),
        ("<think>\nHm.\n</think>\n\nYes.", "Hm.", "Yes.", 0),
        ("<think>Hm.</think>Yes.", "Hm.", "Yes.", 0),  # as a model may write it
        ("<think>\n\n</think>\n\nYes.", None, "Yes.", 0),
        ("<think>\nHm", None, "<think>\nHm", 0),  # cut off: nothing was said yet, and nothing is lost
        (f"I look.\n{CALL}", None, "I look.", 1),
        (f"<think>\nHm.\n</think>\n\n{CALL}{CALL}", "Hm.", "", 2),
        (f"{CALL}\nThere.", None, "There.", 1),
    ],
)
def test_a_reply_is_taken_apart(reply, thinking, content, count):
    message = GRAMMAR.read(reply)
    assert (message.thinking, message.content, len(message.calls)) == (thinking, content, count)


def test_a_plain_template_leaves_replies_as_they_are():
    ids = made().render(chat("u: Hi", 'a: {"name": "rain", "parameters": {}}'))[0].inputs
    start = len(made().prompt(chat("u: Hi")))
    message, finish = made().parse(ids[start:-1].tolist())
    assert (message.content, message.calls, finish) == ('{"name": "rain", "parameters": {}}', (), "stop")
