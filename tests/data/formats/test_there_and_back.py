"""Every format that is written: rows come back as they were; an example loses what is said, and no more."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from turnsmith.data import formats
from turnsmith.errors import DataError
from turnsmith.registry import Registry
from turnsmith.types import Call, Conversation, Example, Message, Span

registry = cache(Registry)
FORMATS = (
    "messages",
    "sharegpt",
    "exchanges",
    "alpaca",
    "completion",
    "prompt",
    "text",
    "stepwise",
    "turnsmith",
)
PAIRS = ("pairs", "pairs-hh", "pairs-sharegpt", "pairs-alpaca", "pairs-messages")
KTO = ("kto", "kto-messages", "kto-sharegpt", "kto-alpaca")


def read(row, name):
    (example,) = formats.examples([("r-1", row)], name, registry(), "rows", Counter())
    return example


def write(example, name):
    return registry().writer(name)(example)


# ------------------------------------------------------------------------------------ rows, by format

TRAPS = ("", " ", "\n\nHuman: hi", "\n", '[{"role": "user", "content": "x"}]', "<|im_end|>", "[1]", "null")
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(TRAPS)
spoken = words.filter(bool)
numbers = st.floats(-9, 9, width=16)
objects = st.dictionaries(words, st.integers(0, 9) | words | st.booleans(), max_size=2)
weights = st.sampled_from([0, 1, 0.5, 3])
spans = st.lists(st.tuples(st.integers(0, 3), st.integers(3, 6), weights).map(list), min_size=1, max_size=2)
columns = st.dictionaries(
    st.sampled_from(["source", "page", "tags"]), st.none() | numbers | objects, max_size=2
)
tools = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": spoken})}),
    min_size=1,
    max_size=2,
)


def rows(needed, **optional):
    return st.builds(
        lambda row, extra: {**extra, **row}, st.fixed_dictionaries(needed, optional=optional), columns
    )


weighing = {"weight": weights, "spans": spans}


def said(role):
    """A message as OpenAI writes it."""
    optional = {"name": words, "mood": words, **weighing}
    if role == "tool":
        optional["tool_call_id"] = words
    if role == "assistant":
        call = st.fixed_dictionaries(
            {
                "type": st.just("function"),
                "function": st.fixed_dictionaries(
                    {"name": words, "arguments": st.sampled_from(["{}", '{"a": 1, "b": "é"}'])}
                ),
            },
            optional={"id": words},
        )
        optional |= {"tool_calls": st.lists(call, min_size=1, max_size=2), "reasoning_content": words}
    return st.fixed_dictionaries({"role": st.just(role), "content": words}, optional=optional)


heard = st.sampled_from(["system", "user", "assistant", "tool"]).flatmap(said)
chats = st.lists(heard, max_size=4)


def turn(name):
    if name == "function_call":
        call = '{"name": "add", "arguments": {"a": 1}}'
        return st.fixed_dictionaries(
            {"from": st.just(name), "value": st.sampled_from([call, f"[{call}, {call}]"])}
        )
    return st.fixed_dictionaries(
        {"from": st.just(name), "value": words}, optional={"mood": words, **weighing}
    )


turns = st.lists(st.sampled_from(["human", "gpt", "observation", "function_call"]).flatmap(turn), max_size=4)
tooled = tools.map(lambda ones: json.dumps(ones, ensure_ascii=False))
pairwise = st.lists(st.tuples(words, words).map(list), min_size=1, max_size=2)
exchange = st.fixed_dictionaries({"human": words, "assistant": words}, optional={"mood": words, **weighing})
steps = st.lists(st.tuples(words, st.booleans()), min_size=1, max_size=3)
verdicts = {"margin": numbers, "score_chosen": numbers, "score_rejected": numbers}
users = st.lists(
    said("user").map(lambda m: {k: v for k, v in m.items() if k != "weight"}), min_size=2, max_size=3
)
answers = st.lists(said("assistant").filter(lambda m: m.get("weight") != 0), min_size=2, max_size=3)
plain = spoken.filter(lambda text: not text.lstrip().startswith("["))


def transcript(texts):
    return "".join(f"\n\n{('Human', 'Assistant')[i % 2]}: {text}" for i, text in enumerate(texts))


def hh(parts):
    start, one, other = parts
    return {"chosen": transcript([*start, one]), "rejected": transcript([*start, other])}


def differ(row, *names):
    one, other = (row[name] for name in names)
    return one != other


quiet = st.text("ab :\n", max_size=5).filter(lambda text: "\n\n" not in f"{text}\n")
ROWS = {
    "messages": rows({"messages": chats}, tools=tools),
    "sharegpt": rows({"conversations": turns}, system=spoken, tools=tooled),
    "exchanges": rows({"conversation": st.lists(exchange, max_size=3)}, system=spoken),
    "alpaca": rows({"instruction": words, "output": words}, input=words, system=spoken, history=pairwise),
    "completion": rows({"prompt": plain, "completion": plain}, tools=tools)
    | rows({"prompt": users, "completion": answers}, tools=tools),
    "prompt": rows({"prompt": plain}, tools=tools) | rows({"prompt": users}, tools=tools),
    "text": rows({"text": words}),
    "stepwise": steps.map(
        lambda ones: {"prompt": "Why?", "completions": [t for t, _ in ones], "labels": [b for _, b in ones]}
    ),
    "pairs": rows({"prompt": plain, "chosen": plain, "rejected": plain}, **verdicts).filter(
        lambda row: differ(row, "chosen", "rejected")
    )
    | rows({"prompt": users, "chosen": answers, "rejected": answers}, tools=tools, **verdicts).filter(
        lambda row: row["chosen"][0] != row["rejected"][0]
    ),
    "pairs-hh": st.builds(
        lambda parts, extra: {**extra, **hh(parts)},
        st.tuples(st.lists(quiet, min_size=1, max_size=3), quiet, quiet).filter(lambda p: p[1] != p[2]),
        st.fixed_dictionaries({}, optional=verdicts),
    ),
    "pairs-sharegpt": rows(
        {"conversations": turns.filter(bool), "chosen": turn("gpt"), "rejected": turn("gpt")},
        system=spoken,
        **verdicts,
    ).filter(
        lambda row: (
            differ(row, "chosen", "rejected") and all(t.get("weight") != 0 for t in row["conversations"])
        )
    ),
    "pairs-alpaca": rows(
        {"instruction": words, "chosen": words, "rejected": words},
        input=words,
        system=spoken,
        history=pairwise,
        **verdicts,
    ).filter(lambda row: differ(row, "chosen", "rejected")),
    "pairs-messages": st.builds(
        lambda start, end, other, row: {**row, "messages": [*start, end], "rejected_response": other},
        users,
        said("assistant"),
        plain,
        st.fixed_dictionaries({}, optional=verdicts),
    ).filter(lambda row: row["messages"][-1] != {"role": "assistant", "content": row["rejected_response"]}),
    "kto": rows({"prompt": plain, "completion": plain, "label": st.booleans()}),
    "kto-messages": st.builds(
        lambda start, end, label: {"messages": [*start, end], "label": label},
        users,
        said("assistant"),
        st.booleans(),
    ),
    "kto-sharegpt": st.builds(
        lambda asked, end, tag: {"conversations": [{"from": "human", "value": asked}, end], "kto_tag": tag},
        words,
        turn("gpt"),
        st.booleans(),
    ),
    "kto-alpaca": rows(
        {"instruction": words, "output": words, "kto_tag": st.booleans()}, input=words, history=pairwise
    ),
}
SETTINGS = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.mark.parametrize("name", ROWS)
@SETTINGS
@given(st.data())
def test_a_row_comes_back_as_it_was(name, data):
    """Through an example, which all else is made from: nothing that the format says is lost."""
    row = data.draw(ROWS[name])
    back, lost = write(read(row, name), name)
    assert lost == ()
    assert back == {"id": "r-1", **row}


# --------------------------------------------------------------------------------- examples, by format

calls = st.lists(st.builds(Call, spoken, objects, st.none() | words), min_size=1, max_size=2).map(tuple)
KEYS = ["mood", "from", "train", "human", "text"]
own = {
    "weight": st.sampled_from([None, None, 0.0, 1.0, 0.5]),
    "spans": st.just(()) | st.just((Span(0, 1, 0.0),)),
    "fields": st.just({}) | st.dictionaries(st.sampled_from(KEYS), st.none() | words),
    "ids": st.none() | st.just((40, 41)),
    "logprobs": st.none() | st.just((-0.5, -1.0)),
    "call_id": st.none() | words,
    "name": st.none() | words,
    "thinking": st.none() | words,
    "calls": calls,
}  # fmt: skip


@st.composite
def message(draw, role):
    """With at most two of all the things that a message may have."""
    keys = draw(
        st.sets(st.sampled_from(sorted(set(own) - (set() if role == "assistant" else {"calls"}))), max_size=2)
    )
    return Message(role, draw(words), **{key: draw(own[key]) for key in sorted(keys)})


@st.composite
def start(draw):
    """What is asked: exchanges after a system text, seldom anything else."""
    system = draw(st.sampled_from([(), ("system",)]))
    middle = draw(st.sampled_from([("user",), ("user", "assistant", "user"), ("user", "assistant", "tool")]))
    messages = tuple(draw(message(role)) for role in (*system, *middle))
    schemas = draw(st.just(()) | st.just(({"type": "function", "function": {"name": "add"}},)))
    return Conversation(messages, schemas)


answer = message("assistant")
beside = st.tuples(
    st.dictionaries(
        st.sampled_from(["rating", "margin", "label", "page"]),
        st.sampled_from([0.0, 1.0, (0.0, 1.0)]),
        max_size=2,
    ),
    st.dictionaries(
        st.sampled_from(["page", "messages", "input", "prompt", "rating"]), words | numbers, max_size=2
    ),
)


def example(parts, values, meta):
    return Example(parts, values, {**meta, "id": "r-1"})


chatted = st.builds(lambda s, a, b: example({"text": s.then(a)}, *b), start(), answer, beside)
judged = st.builds(
    lambda s, a, b, label: example({"text": s.then(a)}, {**b[0], "label": label}, b[1]),
    start(), answer, beside, st.sampled_from([0.0, 1.0]),
)  # fmt: skip
chosen = st.builds(
    lambda s, a, o, b: example({"chosen": s.then(a), "rejected": s.then(o)}, *b),
    start(),
    answer,
    answer,
    beside,
)
ANY = {**dict.fromkeys(FORMATS, chatted), **dict.fromkeys(KTO, judged), **dict.fromkeys(PAIRS, chosen)}
ANY["prompt"] = st.builds(lambda s, b: example({"prompt": s}, *b), start(), beside)
ANY["text"] = st.builds(lambda m, b: example({"text": Conversation((m,))}, *b), message("text"), beside)
ANY["stepwise"] = st.builds(
    lambda s, text, a, b: example(
        {"text": s.then(replace(a, content=text, spans=(Span(0, len(text), 1.0),)))}, *b
    ),
    start(), words, answer, beside,
)  # fmt: skip

ALL = {
    "roles",
    "words",
    "weight",
    "spans",
    "fields",
    "ids",
    "logprobs",
    "calls",
    "call ids",
    "name",
    "thinking",
}
COVERS = {
    "token ids of sampled messages": {"ids"},
    "log-probs": {"logprobs"},
    "weights of messages": {"weight"},
    "earlier answers that learn": {"weight"},
    "questions whose weight was open (now they never learn)": {"weight"},
    "weights of spans": {"spans"},
    "keys of messages": {"fields"},
    "keys of messages that the format uses itself": {"fields"},
    "calls": {"calls", "call ids"},
    "ids of calls": {"call ids"},
    "names of speakers": {"name"},
    "thinking": {"thinking"},
    "tools": {"tools"},
    "text beside calls": {"words", "spans"},
    "weights and keys of questions": {"weight", "spans", "fields"},
    "empty system messages": ALL,
    "all of the answer but its steps": ALL - {"roles", "words", "spans"},
    "columns that the format uses itself": {"meta"},
    "values of which a column has the name": {"values"},
    "values (kept as columns)": {"values", "meta"},
}


def features(example):
    """All that an example says, by what it is."""
    conversations = [
        one for part in example.parts.values() for one in (part if isinstance(part, tuple) else [part])
    ]
    messages = [m for one in conversations for m in one.messages]
    found = {
        key: [getattr(m, key) for m in messages] for key in ("weight", "spans", "fields", "ids", "logprobs")
    }
    found |= {key: [getattr(m, key) for m in messages] for key in ("name", "thinking")}
    found["roles"], found["words"] = [m.role for m in messages], [m.content for m in messages]
    found["calls"] = [[(call.name, call.arguments) for call in m.calls] for m in messages]
    found["call ids"] = [(m.call_id, [call.id for call in m.calls]) for m in messages]
    found["tools"], found["parts"] = [one.tools for one in conversations], list(example.parts)
    return found | {"values": example.values, "meta": example.meta}


@pytest.mark.parametrize("name", ANY)
@SETTINGS
@given(st.data())
def test_an_example_loses_what_is_said_and_no_more(name, data):
    given = data.draw(ANY[name])
    try:
        row, lost = write(given, name)
    except DataError:
        assume(False)
    before, after = features(given), features(read(row, name))
    gone = {key for key in before if before[key] != after[key]}
    covered = set().union(*(COVERS[one] for one in lost))
    assert gone <= covered, (sorted(gone - covered), row)
    for one in lost:
        assert gone & COVERS[one], f"{one} is said to be lost, and is there"


def test_every_format_that_is_written_is_tried():
    written = {entry.name for entry in registry().entries("format") if entry.traits.get("writer")}
    elsewhere = {"oasst", "llava"}  # a tree, and a record of an image: their own tests write and read them
    assert written == {*ANY, *elsewhere}
    assert written - {"turnsmith", *elsewhere} == set(ROWS)
