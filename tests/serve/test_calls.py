"""Replies that have to be calls of tools, and what of calls is passed on."""

import json

import openai
import pytest

from turnsmith.data.render import Renderer
from turnsmith.models.load import load
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.serve.batching import Batching
from turnsmith.serve.replies import Replies
from turnsmith.serve.served import Served
from turnsmith.serve.wire import ChatAsked
from turnsmith.testing import directory
from turnsmith.types import Completion

ASKED = [{"role": "user", "content": "Will it rain?"}]
CALLING = """{% if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<tool_call>
{"name": "{{ c.function.name }}", "arguments": CALLED}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
JSON = CALLING.replace("CALLED", "{{ c.function.arguments | tojson }}")
# A notation of its own, which is read back and is no JSON.
PAIRS = """{% for m in messages %}<|im_start|>{{ m.role }}
{% if m.content %}{{ m.content }}{% endif %}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}
{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value>
{% endfor %}</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% if add_generation_prompt -%}
<|im_start|>assistant
{% endif %}"""


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    function = {"name": name, "parameters": parameters | {"additionalProperties": False}}
    return {"type": "function", "function": function}


TOOLS = [
    tool("rain", city={"enum": ["Oslo", "Bergen"]}, days={"type": "integer", "maximum": 9, "minimum": 1}),
    tool("wind", strong={"type": "boolean"}),
]


def served(folder, name, template):
    model, words = load(str(directory(folder / name, template=template)))
    renderer = Renderer(words)
    chat = LocalChat(LocalEngine(model, stop=renderer.stops), renderer)
    return Served(name, chat, Batching(chat.engine, rows=2, capacity=700))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calling")
    return {"json": served(folder, "json", JSON), "pairs": served(folder, "pairs", PAIRS)}


@pytest.fixture(scope="module")
def client(models, running):
    url = running(models).url
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def ask(client, choice, **more):
    asked = {"model": "json", "messages": ASKED, "tools": TOOLS, "max_tokens": 120, "seed": 1}
    return client.chat.completions.create(**(asked | {"tool_choice": choice} | more))


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_is_a_call_of_the_tool_that_is_named(client, stream):
    found = ask(client, {"type": "function", "function": {"name": "rain"}}, stream=stream)
    if stream:
        choices = [piece.choices[0] for piece in found]
        (call,) = [call for one in choices for call in one.delta.tool_calls or []]
        finish = choices[-1].finish_reason
    else:
        (call,), finish = found.choices[0].message.tool_calls, found.choices[0].finish_reason
        assert found.choices[0].message.content is None
    assert (call.function.name, finish) == ("rain", "tool_calls")
    arguments = json.loads(call.function.arguments)
    assert set(arguments) == {"city", "days"}
    assert arguments["city"] in ("Oslo", "Bergen")
    assert arguments["days"] in range(1, 10)


def test_where_a_call_is_required_it_is_one_of_the_tools(client):
    found = ask(client, "required", n=2, temperature=1.5)
    names = {call.function.name for one in found.choices for call in one.message.tool_calls}
    assert names <= {"rain", "wind"}
    assert [len(one.message.tool_calls) for one in found.choices] == [1] * 2


@pytest.mark.parametrize(
    ("choice", "more", "said"),
    [
        ({"type": "function", "function": {"name": "snow"}}, {}, "of tools there is rain, wind"),
        ("often", {}, "tool_choice: take `auto`"),
        ("required", {"response_format": {"type": "json_object"}}, "a reply is a call or keeps to"),
        ("required", {"model": "pairs"}, r"that is no JSON \(tagged_pairs\): a call cannot be forced"),
    ],
)  # fmt: skip
def test_what_cannot_be_forced_is_refused_with_the_reason(client, choice, more, said):
    with pytest.raises(openai.BadRequestError, match=said):
        ask(client, choice, **more)


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (False, 1)])
def test_of_parallel_calls_the_first_one_is_passed_on_where_only_one_is_wanted(models, parallel, count):
    asked = ChatAsked(model="json", messages=ASKED, tools=TOOLS, parallel_tool_calls=parallel, max_tokens=4)
    one = models["json"]
    written = "".join(
        f'<tool_call>\n{{"name": "wind", "arguments": {{"strong": {strong}}}}}\n</tool_call>'
        for strong in ("true", "false")
    )
    ids = tuple(one.chat.renderer.ids(written))
    replies = Replies(one, asked, asked.conversation(), asked.how(4), [1], [None], [])
    reply = replies.reply(0, Completion(ids, (0.0,) * len(ids), "stop"))
    assert [call.arguments["strong"] for call in reply.message.calls] == [True, False][:count]
