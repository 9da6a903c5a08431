"""What is promised of every chat template, checked over conversations made for it, smallest first.

from turnsmith.testing import properties

for name, outcome in properties(tokenizer).items():
    print(name, outcome)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from turnsmith.data.encode import special_tokens
from turnsmith.data.probe import TOOL
from turnsmith.data.render import Renderer
from turnsmith.errors import RenderError
from turnsmith.types import Call, Conversation, Json, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PASS = "pass"
WORDS = (
    *(
        "Hello",
        " there",
        "\n",
        "\n\n",
        "  ",
        "é",
        "日本語",
        "🙂",
        "'s",
        "1,234",
        "{",
        "}",
        '"',
        "\\",
        "#",
        "I",
    ),
    *(
        "<b>",
        "</b>",
        " am",
        "\t",
        "مرحبا",
        "a" * 40,
        "%}",
        "{{ x }}",
        "e\u0301",
        "nbsp\u00a0",
        ":",
        "</",
        "|",
    ),
)
VALUES: tuple[Json, ...] = ("Oslo", 3, True, 2.5, "a b", [1, "x"], {"deep": "é"})
Check = Callable[[Renderer, Conversation], str | None]


def properties(tokenizer: PreTrainedTokenizerBase, *, count: int = 40) -> dict[str, str]:
    """Each property with `pass`, or with why it fails and the smallest conversation of `count` that shows it.

    load: the renderer can be made. ids: they are those that the tokenizer gives the template's own text;
    `pass up to replies` where it joins the first characters of a reply with what was there before. text:
    special tokens in what is said stay text. prompt: what stands before a reply is the prompt for it. parse,
    thinking, calls: rendering and parsing gives the reply back, its thoughts, its calls. history: `one
    sequence`, or `one for each reply` where the template rewrites earlier turns.
    """
    try:
        renderer = Renderer(tokenizer)
    except RenderError as error:
        return {"load": f"refused: {error}"}
    found = {"load": PASS, "ids": _ids(renderer, count)}
    found["text"] = _first(renderer, _stays_text, forged(tokenizer, count))
    found["prompt"] = _first(renderer, _prompts, conversations(count))
    found["parse"] = _first(renderer, _parses, conversations(count))
    found["thinking"] = _first(renderer, _parses, thoughts(count)) if renderer.thinks else "none"
    found["calls"] = _first(renderer, _parses, calling(count)) if renderer.calls else "none"
    found["history"] = "one sequence" if len(renderer.render(_LONG)) == 1 else "one for each reply"
    return found


_LONG = Conversation(
    tuple(
        Message("user" if at % 2 == 0 else "assistant", text)
        for at, text in enumerate(("Hi", "Hello.", "So?", "Well."))
    )
)


# ----------------------------------------------------------------------------------- conversations


def conversations(count: int) -> Iterator[Conversation]:
    """Plain ones of growing size: questions and answers, the later ones with a system message."""
    for number in range(count):
        rng = Random(f"conversations {number}")
        messages = [
            Message("user" if turn % 2 == 0 else "assistant", _said(rng, 1 + number // 4))
            for turn in range(2 * rng.randint(1, 1 + number // 10))
        ]
        yield Conversation(tuple(messages))


def forged(tokenizer: PreTrainedTokenizerBase, count: int) -> Iterator[Conversation]:
    """Conversations in which somebody writes special tokens."""
    marks = list(special_tokens(tokenizer))
    for number, given in enumerate(conversations(count)):
        rng = Random(f"forged {number}")
        at = rng.randrange(len(given.messages))
        mark = "".join(rng.choice(marks) for _ in range(1 + number // 10))
        text = given.messages[at].content
        cut = rng.randint(0, len(text))
        changed = replace(given.messages[at], content=f"x{text[:cut]}{mark}{text[cut:]}x")
        yield replace(given, messages=(*given.messages[:at], changed, *given.messages[at + 1 :]))


def thoughts(count: int) -> Iterator[Conversation]:
    """Conversations whose last reply was thought about."""
    for number, given in enumerate(conversations(count)):
        rng = Random(f"thoughts {number}")
        last = replace(given.messages[-1], thinking=f"T{_said(rng, 1 + number // 4)}.")
        yield replace(given, messages=(*given.messages[:-1], last))


def calling(count: int) -> Iterator[Conversation]:
    """Conversations whose last reply calls a tool."""
    for number, given in enumerate(conversations(count)):
        rng = Random(f"calling {number}")
        arguments = {f"key_{at}": rng.choice(VALUES) for at in range(rng.randint(1, 1 + number // 10))}
        last = Message("assistant", "", calls=(Call("find_rain", arguments),))
        yield Conversation((*given.messages[:-1], last), (TOOL,))


def _said(rng: Random, size: int) -> str:
    """A text with something in it that is no space."""
    return f"{''.join(rng.choice(WORDS) for _ in range(rng.randint(0, size)))}w"


# ------------------------------------------------------------------------------------------ checks


def _first(renderer: Renderer, check: Check, given: Iterator[Conversation]) -> str:
    """The first conversation that the check fails on, and why."""
    for conversation in given:
        try:
            failure = check(renderer, conversation)
        except RenderError as error:
            failure = f"refused: {error}"
        if failure is not None:
            return f"{failure} [{_shown(conversation)}]"
    return PASS


def _ids(renderer: Renderer, count: int) -> str:
    strict = _first(renderer, _same_ids, conversations(count))
    if strict == PASS:
        return PASS
    loose = _first(renderer, _same_ids_in_pieces, conversations(count))
    return "pass up to replies" if loose == PASS else loose


def _same_ids(renderer: Renderer, conversation: Conversation) -> str | None:
    [*_, last] = renderer.render(conversation)
    same = last.inputs.tolist() == renderer.whole(conversation)
    return None if same else "other ids than the template's own"


def _same_ids_in_pieces(renderer: Renderer, conversation: Conversation) -> str | None:
    [*_, last] = renderer.render(conversation)
    same = last.inputs.tolist() == renderer.whole(conversation, cut=True)
    return None if same else "other ids than the template's own, between replies"


def _stays_text(renderer: Renderer, conversation: Conversation) -> str | None:
    special = set(special_tokens(renderer.tokenizer).values())
    innocent = replace(
        conversation,
        messages=tuple(replace(message, content="xwx") for message in conversation.messages),
    )
    counts = [
        sum(int(id) in special for tokens in renderer.render(one) for id in tokens.inputs)
        for one in (conversation, innocent)
    ]
    if counts[0] != counts[1]:
        return f"{counts[0]} special tokens instead of {counts[1]}"
    return _parses(renderer, conversation)


def _prompts(renderer: Renderer, conversation: Conversation) -> str | None:
    before: list[int] = []
    grows = len(renderer.render(conversation)) == 1
    for turn, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        [*_, tokens] = renderer.render(conversation.upto(turn + 1), "last")
        prompt = renderer.prompt(conversation.upto(turn))
        if tokens.inputs[: len(prompt)].tolist() != prompt:
            return f"the prompt for turn {turn} is not what stands before it"
        if tokens.weights[: len(prompt)].any():
            return f"what stands before turn {turn} has loss"
        if grows and prompt[: len(before)] != before:
            return f"the prompt for turn {turn} does not extend the one before"
        before = prompt
    return None


def _parses(renderer: Renderer, conversation: Conversation) -> str | None:
    [*_, tokens] = renderer.render(conversation, "last")
    given = conversation.messages[-1]
    reply = tokens.inputs[tokens.weights > 0].tolist()
    if given.role != "assistant":
        return None
    message, finish = renderer.parse(reply, conversation.tools)
    if finish != "stop":
        return "the reply does not end"
    if message.content.strip() != given.content.strip():
        return f"the content comes back as {message.content!r}"
    if (message.thinking or "").strip() != (given.thinking or "").strip():
        return f"the thinking comes back as {message.thinking!r}"
    if [(c.name, c.arguments) for c in message.calls] != [(c.name, c.arguments) for c in given.calls]:
        return f"the calls come back as {[(c.name, dict(c.arguments)) for c in message.calls]}"
    return None


def _shown(conversation: Conversation) -> str:
    """The conversation in one line."""
    return "; ".join(f"{m.role}: {_message(m)}" for m in conversation.messages)


def _message(message: Message) -> str:
    extra: Mapping[str, Any] = {
        "thinking": message.thinking,
        "calls": [(call.name, dict(call.arguments)) for call in message.calls],
    }
    return " ".join([repr(message.content), *(f"{key}={value!r}" for key, value in extra.items() if value)])
