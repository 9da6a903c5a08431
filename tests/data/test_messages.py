"""Messages as others write them: calls, tools, reasoning, and what the loss weighs."""

import base64
import json

import pytest

from turnsmith.data.messages import conversation, dump, load, message, say, schemas_of
from turnsmith.errors import DataError
from turnsmith.testing import picture
from turnsmith.types import IMAGE, Call, Conversation, Span

ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
WIRE = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}


def said(**given):
    return message({"role": "assistant", "content": "x", **given}, "here")


@pytest.mark.parametrize(
    "call",
    [
        WIRE,
        {**WIRE, "function": {"name": "add", "arguments": {"a": 1, "b": 2}}},
        {"id": "c1", "name": "add", "arguments": {"a": 1, "b": 2}},
    ],
)
def test_a_call_is_the_same_however_it_is_written(call):
    assert said(content=None, tool_calls=[call]).calls == (Call("add", {"a": 1, "b": 2}, "c1"),)
    assert said(content=None, tool_calls=[call]).content == ""


def test_the_function_call_of_old_is_a_call():
    found = said(content=None, function_call={"name": "add", "arguments": ""})
    assert found.calls == (Call("add", {}, None),)
    assert message({"role": "function", "name": "add", "content": "3"}, "here").role == "tool"


def test_a_tool_message_names_the_call_that_it_answers():
    found = message({"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"}, "here")
    assert (found.role, found.call_id, found.name, found.fields) == ("tool", "c1", "add", {})


@pytest.mark.parametrize("key", ["thinking", "reasoning_content", "reasoning"])
def test_reasoning_is_apart_from_what_is_said(key):
    assert (said(**{key: "Hm."}).thinking, said(**{key: "Hm."}).content) == ("Hm.", "x")


@pytest.mark.parametrize("tools", [[ADD], json.dumps([ADD])])
def test_tools_stand_beside_the_messages(tools):
    found = conversation([{"role": "user", "content": "1 + 2?"}], "here", tools=tools)
    assert found.tools == (ADD,)
    assert schemas_of(None) == schemas_of([]) == ()


@pytest.mark.parametrize(
    ("given", "weight"),
    [
        ({"weight": 0}, 0), ({"weight": 0.5}, 0.5), ({"train": False}, 0), ({"train": True}, 1),
        ({"loss": False}, 0), ({"loss_scale": 2.5}, 2.5), ({"loss_mask": 1}, 1), ({"trainable": 0}, 0),
        ({"train": True, "loss_mask": 1}, 1), ({}, None), ({"loss": None}, None),
    ],
)  # fmt: skip
def test_what_the_loss_weighs_is_read_however_it_is_said(given, weight):
    assert said(**given).weight == weight


def test_two_ways_that_differ_are_an_error():
    with pytest.raises(DataError, match=r"here says train 1 and loss_mask 0: which of them counts\?"):
        said(train=True, loss_mask=0)


def test_stretches_of_characters_weigh_on_their_own():
    """Axolotl counts the last character in: 0 to 4 are `Hello`."""
    details = [{"begin_offset": 0, "end_offset": 4, "train": False}]
    assert said(content="Hello, you", train_detail=details).spans == (Span(0, 5, 0.0),)


def test_parts_of_the_content_may_weigh_on_their_own():
    parts = [
        {"type": "text", "text": "ab"},
        {"type": "text", "text": "cde", "train": False},
        {"type": "text", "text": "f", "weight": 2},
    ]
    assert said(content=parts).content == "abcdef"
    assert said(content=parts).spans == (Span(2, 5, 0.0), Span(5, 6, 2.0))


def test_images_stand_where_their_parts_do_and_are_written_as_openai_does(tmp_path):
    red = picture()
    (tmp_path / "a.png").write_bytes(base64.b64decode(red.url.partition(",")[2]))
    parts = [
        {"type": "image_url", "image_url": {"url": red.url}},
        {"type": "text", "text": "Like "},
        {"type": "image", "path": str(tmp_path / "a.png")},
        {"type": "text", "text": "?", "weight": 2},
    ]
    found = said(content=parts)
    assert found.content == f"{IMAGE}Like {IMAGE}?"
    assert [image.digest for image in found.images] == [red.digest] * 2
    assert found.spans == (Span(7, 8, 2.0),)
    wire = say(found)
    assert wire["content"] == [
        {"type": "image_url", "image_url": {"url": red.url}},
        {"type": "text", "text": "Like "},
        {"type": "image_url", "image_url": {"url": str(tmp_path / "a.png")}},
        {"type": "text", "text": "?"},
    ]
    assert message(wire, "here") == found
    assert load(dump(Conversation((found,)))) == Conversation((found,))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"tool_calls": {"name": "add"}}, "tool_calls must be a list"),
        ({"tool_calls": [{"function": {}}]}, r"here.tool_calls\[0\] must name a function"),
        ({"tool_calls": [{"name": "add", "arguments": "{"}]}, "the arguments are no JSON"),
        ({"tool_calls": [{"name": "add", "arguments": "[1]"}]}, "the arguments must be an object"),
        ({"content": None}, "the content must be text, not None"),
        (
            {"content": [{"type": "image_url"}]},
            r"here.content\[0\]: an image must say its `url`, a path or a data: URI, not None",
        ),
        (
            {"content": [{"type": "audio"}]},
            r"here.content\[0\]: the content must be text and images, and this part of it is 'audio'",
        ),
        ({"weight": True}, "the weight must be a number"),
        ({"loss_scale": "high"}, "the loss_scale must be a number"),
        ({"train_detail": [{"begin_offset": 0}]}, "train_detail needs begin_offset, end_offset and train"),
    ],
)
def test_what_cannot_be_read_is_named_by_place(given, reason):
    with pytest.raises(DataError, match=reason) as error:
        said(**given)
    assert "here" in str(error.value)


def test_tools_that_are_none_are_an_error():
    with pytest.raises(DataError, match="tools must be a list of schemas"):
        schemas_of({"name": "add"})


def test_nothing_of_it_is_lost_on_the_way_to_disk_and_back():
    given = conversation(
        [
            {"role": "user", "content": "1 + 2?", "name": "Ada"},
            {"role": "assistant", "content": None, "tool_calls": [WIRE], "reasoning_content": "A sum."},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": "3", "train": False},
        ],
        "here",
        tools=[ADD],
    )
    assert load(json.loads(json.dumps(dump(given)))) == given
