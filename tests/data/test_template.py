"""Chat templates as programs: what they are given, what they may do, and when they need not run again."""

import gc
import sys
import weakref
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnsmith.data.opaque import is_opaque
from turnsmith.data.render import Renderer
from turnsmith.data.template import BREAK, CLOSE, OPEN, Dialect, Template, frozen
from turnsmith.data.views import _made
from turnsmith.errors import RenderError
from turnsmith.testing import builders, chat, tokenizer
from turnsmith.types import Call, Conversation, Message

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import templates as tool

EACH = "{% for m in messages %}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
PRINTED = EACH + "{{ m | tojson }}{% endfor %}"
OPAQUE = sorted(name for name, text in tool.templates().items() if is_opaque(text))


def template(source, **dialect):
    return Template(source, {}, ["<|im_start|>", "<|im_end|>"], Dialect(**dialect))


# --------------------------------------------------------------------------------- what it is given


def test_special_tokens_in_what_is_said_are_broken_up():
    assert template(PRINTED).guarded("a<|im_end|>b") == f"a<{BREAK}|im_end|>b"
    assert template(PRINTED).guarded("a<b>") == "a<b>"


def test_calls_are_given_as_objects_or_as_text():
    conversation = Conversation((Message("assistant", "", calls=(Call("add", {"a": 1}, "c1"),)),))
    assert template(PRINTED, arguments="object").rows(conversation) == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
            ],
        }
    ]
    [row] = template(PRINTED, arguments="text", empty=None).rows(conversation)
    assert row["content"] is None
    assert row["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_a_tools_answer_is_named_after_the_call_that_it_answers():
    called = Message("assistant", "", calls=(Call("add", {}, "c1"), Call("sub", {}, "c2"), Call("mul", {})))
    answers = (Message("tool", "2", call_id="c2"), Message("tool", "1", call_id="c1"), Message("tool", "3"))
    rows = template(PRINTED, arguments="object").rows(Conversation((called, *answers)))
    assert [row["name"] for row in rows[1:]] == ["sub", "add", "mul"]


def test_thoughts_stand_in_their_own_field_or_before_the_content():
    conversation = Conversation((Message("assistant", "Yes.", thinking="Hm."),))
    assert template(PRINTED, reasoning="field").rows(conversation)[0]["reasoning_content"] == "Hm."
    [inline] = template(PRINTED, reasoning="inline").rows(conversation)
    assert inline["content"] == "<think>\nHm.\n</think>\n\nYes."


def test_contents_are_given_in_parts_where_the_template_wants_them():
    [row] = template(PRINTED, parts=True).rows(chat("u: Hi"))
    assert row["content"] == [{"type": "text", "text": "Hi"}]


# ---------------------------------------------------------------------------------- what it may not


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("line\n{% for m in messages %}{{ m.content }", "line 2 of the chat template is no Jinja"),
        ("{{ ''.__class__.__mro__ }}", "tries to leave its sandbox"),
        ("{{ messages[7].content }}", r"refuses example 'row 1' \(roles: user\)"),
    ],
    ids=["syntax", "sandbox", "undefined"],
)
def test_a_broken_or_hostile_template_is_named(source, words):
    with pytest.raises(RenderError, match=words):
        template(source).text(chat("u: Hi"), name="row 1")


# ------------------------------------------------------------------------------------------ the day


@pytest.mark.parametrize("source", ["{{ 1 + 'a' }}", "{{ raise_exception('no') }}", "{{ messages[9].role }}"])
def test_a_refusal_keeps_nothing_of_its_callers_alive(source):
    class Model:
        pass

    def asks():
        held = Model()
        with suppress(RenderError):
            template(source).text(chat("u:a"))
        return weakref.ref(held)

    gc.disable()
    try:
        assert asks()() is None
    finally:
        gc.enable()


def test_the_day_is_frozen_and_part_of_the_template():
    source = "{{ strftime_now('%d %b %Y') }} {{ strftime_now(\"%Y-%m-%d\") }}"
    text = template(frozen(source, date="26 Jul 2024")).text(chat("u: Hi")).text
    assert text == "26 Jul 2024 2024-07-26"
    assert frozen(frozen(source)) == frozen(source)
    assert frozen(PRINTED) == PRINTED


def test_a_day_that_cannot_be_frozen_is_refused():
    with pytest.raises(RenderError, match="only known when it runs"):
        frozen("{% set f = '%Y' %}{{ strftime_now(f) }}")


def test_the_day_makes_another_fingerprint():
    source = "{{ strftime_now('%Y') }}" + builders.CHATML
    prints = {Renderer(tokenizer(source), date=date).fingerprint for date in ("01 Jan 2025", "01 Jan 2026")}
    assert len(prints) == 2
    assert "2025" in Renderer(tokenizer(source), date="01 Jan 2025").template


# ------------------------------------------------------------------------------- run once for each shape


@pytest.mark.parametrize(
    "source",
    [
        builders.CHATML,
        EACH + "{% if m.content %}{{ m.role + m['content'] | trim }}{% endif %}{% endfor %}",
        "{% set f = messages[0]['content'] %}{{ f }}{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
        "{% set ns = namespace(s='') %}" + EACH + "{% set ns.s = ns.s ~ m.content %}{% endfor %}{{ ns.s }}",
    ],
)
def test_a_template_that_passes_on_what_is_said_is_opaque(source):
    assert is_opaque(source)


@pytest.mark.parametrize(
    "source",
    [
        EACH + "{% if 'x' in m.content %}a{% endif %}{% endfor %}",
        EACH + "{% if m.content == 'x' %}a{% endif %}{% endfor %}",
        EACH + "{{ m.content | upper }}{% endfor %}",
        EACH + "{{ m.content.split('a')[0] }}{% endfor %}",
        EACH + "{{ m.content[0] }}{% endfor %}",
        EACH + "{{ m | tojson }}{% endfor %}",
        "{{ messages }}",
        "{{ " + "9" * 5000 + " }}",  # no Jinja: its lexer cannot read a number of so many digits
        EACH + "{% set c = m.content %}{{ c | length }}{% endfor %}",
        "{% macro f(x) %}{{ x | upper }}{% endmacro %}" + EACH + "{{ f(m.content) }}{% endfor %}",
        EACH + "{% for k in m.content %}{{ k }}{% endfor %}{% endfor %}",
        EACH + "{% for k, v in m.items() %}{{ v }}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='') %}" + EACH + "{% set ns.s = m.content %}{% endfor %}{{ ns.s | upper }}",
        EACH + "{{ 'a' if m.content.startswith('x') else 'b' }}{% endfor %}",
        "{% for c in messages | map(attribute='content') %}{{ c | upper }}{% endfor %}",
        "not { jinja %}{% x",
    ],
)
def test_a_template_that_looks_into_what_is_said_is_not(source):
    assert not is_opaque(source)


said = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=12),
    st.lists(st.sampled_from([" ", "\n", "Hi", "<|im_end|>", "</think>", "{", "1"]), max_size=5).map("".join),
)
pairs = st.lists(st.tuples(said, said), min_size=1, max_size=3)


@pytest.mark.parametrize("name", OPAQUE)
@settings(max_examples=30, deadline=None)
@given(pairs=pairs, weights=st.lists(st.sampled_from([0.0, 1.0]), min_size=6, max_size=6))
def test_what_is_remembered_is_what_the_template_itself_makes(name, pairs, weights):
    views = Renderer(tool.speaking(tokenizer(), tool.templates()[name]))._views
    said = [
        Message(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    conversation = Conversation(tuple(said))
    assert views.known.template.opaque
    found = views.of(conversation, weights[: len(said)], "?")
    made = _made(views.known, conversation, weights[: len(said)], "?")
    assert [(one.text, one.count) for one in found] == [(one.text, one.count) for one in made]
    for one, other in zip(found, made, strict=True):
        assert [(r.index, r.start, r.end) for r in one.replies] == [
            (r.index, r.start, r.end) for r in other.replies
        ]


def test_what_only_the_template_can_tell_is_left_to_it():
    source = builders.CHATML.replace("message['role']", "(message['name'] or message['role'])")
    renderer = Renderer(tokenizer(source))
    assert renderer._views.known.template.opaque
    for name, fields in (("Ada", {}), (None, {"name": "Bo"}), (None, {})):
        asked = Conversation((Message("user", "Hi", name=name, fields=fields), Message("assistant", "Oh")))
        [tokens] = renderer.render(asked)
        said = tokenizer().decode(tokens.inputs)
        assert said.startswith(f"<|im_start|>{name or fields.get('name', 'user')}\n")


def test_marks_lie_inside_the_spaces():
    text = template(builders.CHATML).text(chat("u: Hi").then(Message("assistant", " so ")), mark={1}).text
    assert f" {OPEN}so{CLOSE} " in text


# -------------------------------------------------------------------------------------------- marks


MARKED = EACH + (
    "{% if m.role == 'assistant' %}{{ '<|im_start|>assistant\n' }}{% generation "
    "%}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else "
    "%}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
) + ASK  # fmt: skip
HI = chat("u: Hi", "a: Hello there", "u: And?", "a: So.")


def learnt(source, conversation=HI):
    [tokens] = Renderer(tokenizer(source)).render(conversation)
    return tokenizer().decode(tokens.inputs[tokens.weights > 0])


def test_marks_and_prompts_agree_on_what_learns():
    assert learnt(MARKED) == learnt(builders.CHATML) == "Hello there<|im_end|>So.<|im_end|>"


def test_marks_with_the_header_in_them_do_not_teach_the_header():
    headed = MARKED.replace(
        "{{ '<|im_start|>assistant\n' }}{% generation %}", "{% generation %}{{ '<|im_start|>assistant\n' }}"
    )
    assert headed != MARKED
    assert learnt(headed) == "Hello there<|im_end|>So.<|im_end|>"


def test_marks_that_end_before_the_stop_token_hold_it_too():
    short = MARKED.replace(
        "m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}",
        "m.content }}{% endgeneration %}{{ '<|im_end|>\n' }}",
    )
    assert short != MARKED
    assert learnt(short) == "Hello there<|im_end|>So.<|im_end|>"


def test_marks_that_leave_out_what_the_model_writes_are_refused():
    late = MARKED.replace("{{ m.content + '<|im_end|>' }}", "{{ '<|im_end|>' }}").replace(
        "{% generation %}", "{{ m.content }}{% generation %}"
    )
    with pytest.raises(RenderError, match="marks of the chat template do not hold all that the model writes"):
        Renderer(tokenizer(late))


# ----------------------------------------------------------------------------------- thinking closed


OPENING = EACH + (
    "{{ '<|im_start|>' + m.role + '\n' + ('<think></think>' if m.role == 'assistant' else '') + m.content "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' + "
    "('<think></think>' if enable_thinking is defined and not enable_thinking else '<think>\n') }}{% endif %}"
)


def test_a_prompt_that_opens_a_thought_is_closed_for_replies_without_one():
    renderer = Renderer(tokenizer(OPENING))
    assert renderer.template.startswith("{%- set enable_thinking = false -%}")
    assert renderer.text(renderer.prompt(HI.upto(1))).endswith("<|im_start|>assistant\n<think></think>")
    assert learnt(OPENING) == "Hello there<|im_end|>So.<|im_end|>"


def test_a_prompt_that_only_opens_a_thought_is_refused():
    always = OPENING.replace("enable_thinking is defined and not enable_thinking", "false")
    with pytest.raises(RenderError, match="would learn an answer to what it is never asked"):
        Renderer(tokenizer(always))


def test_a_template_that_was_told_to_think_wants_thoughts():
    thinking = "{%- set enable_thinking = true -%}" + OPENING.replace(
        "'<think></think>' if m.role == 'assistant'",
        "('<think>\n' + m.reasoning_content + '</think>' if m.reasoning_content else '<think></think>') "
        "if m.role == 'assistant'",
    )
    renderer = Renderer(tokenizer(thinking))
    thought = replace(HI.messages[1], thinking="Hm.")
    [tokens] = renderer.render(Conversation((HI.messages[0], thought)))
    assert tokenizer().decode(tokens.inputs[tokens.weights > 0]) == "Hm.</think>Hello there<|im_end|>"
    with pytest.raises(RenderError, match="Does the turn lack its thinking"):
        renderer.render(HI)
