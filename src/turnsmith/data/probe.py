"""What a chat template does, found out by having it render small conversations."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import product

from turnsmith.data.template import BREAK, Dialect, Reasoning, Template, Text
from turnsmith.errors import RenderError
from turnsmith.types import Call, Conversation, Message

PROBE = Conversation(
    (
        Message("user", "Zwei Fragen?"),
        Message("assistant", "Gladly."),
        Message("user", "And two more."),
        Message("assistant", "Of course!"),
    )
)
THOUGHTFUL = Conversation(
    tuple(replace(m, thinking=f"Well, {m.content}") if m.role == "assistant" else m for m in PROBE.messages)
)
MORE = Message("user", "Then three.")
THOUGHT = Conversation((PROBE.messages[0], Message("assistant", "Gladly.", thinking="Why not help?")))
CALL = Call("find_rain", {"city": "Oslo", "days": 3}, id="call00001")
TOOL = {
    "type": "function",
    "function": {
        "name": "find_rain",
        "description": "Rain of the days to come.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
CALLING = Conversation((PROBE.messages[0], Message("assistant", "", calls=(CALL,))), (TOOL,))
CALLED = CALLING.then(Message("tool", "Much of it.", call_id="call00001"))
# Said in a template's first line: whether a reply begins with thoughts. The names are those in use.
CLOSED = ("", "{%- set enable_thinking = false -%}", "{%- set thinking = false -%}")


@dataclass(frozen=True, slots=True)
class Reply:
    """Where the reply of message `index` stands in the text of the conversation up to it: `start` is where
    the prompt ends, `end` is behind the token that ends the turn."""

    index: int
    text: Text
    start: int
    end: int

    @property
    def said(self) -> str:
        """What the model writes, the end of its turn included."""
        return self.text.text[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Known:
    """A template as it is to be used.

    header: what stands between what was said before and any reply. stops: texts of the special tokens that
    end a reply, first that of a plain one. probe: what it was observed on.
    """

    template: Template
    header: str
    stops: tuple[str, ...]
    probe: Conversation

    def reply(self, conversation: Conversation, index: int, name: str = "?") -> Reply:
        """The reply of message `index` behind the prompt that the model gets for it.

        Raises RenderError where the reply cannot be told from the prompt, or the turn has no end.
        """
        text = self.template.text(conversation.upto(index + 1), name=name)
        prompt = self._prompt(conversation, index, text.text, name)
        start = len(prompt)
        if not text.text.startswith(prompt):
            text = self._behind(prompt, text, index, name)
        ends = [
            found.end()
            for found in self.template.pattern.finditer(text.text, start)
            if found[0] in self.stops
        ]
        if not ends:
            raise RenderError(
                f"turn {index} of example {name!r} does not end on {' or '.join(map(repr, self.stops))}: "
                "the model would never learn to stop. Does the template end every assistant turn?"
            )
        return Reply(index, text, start, ends[-1])

    def suited(self, conversation: Conversation) -> Conversation:
        """The conversation, with a thought in every reply where this template is only used with thoughts."""
        if self.probe != THOUGHTFUL:
            return conversation
        thought = THOUGHT.messages[1].thinking
        messages = (
            replace(m, thinking=m.thinking or thought) if m.role == "assistant" else m
            for m in conversation.messages
        )
        return replace(conversation, messages=tuple(messages))

    def last(self, reply: Reply) -> int:
        """Where the token that ends a reply begins."""
        found = self.template.pattern.finditer(reply.text.text, reply.start, reply.end)
        return [one.start() for one in found if one[0] in self.stops][-1]

    def _prompt(self, conversation: Conversation, index: int, text: str, name: str) -> str:
        """What the model gets to answer with message `index`. text: of the conversation up to that
        message."""
        asked = conversation.upto(index)
        if all(message.role == "system" for message in asked.messages):
            at = text.find(self.header) if self.header else -1
            if at >= 0:  # a model that speaks first: no template has a prompt for that
                return text[: at + len(self.header)]
        return self.template.text(asked, prompt=True, name=name).text

    def _behind(self, prompt: str, text: Text, index: int, name: str) -> Text:
        """The reply at the end of `text` behind the prompt for it, from which the template has left something
        out once the reply is there: gpt-oss forgets its thoughts when it has answered."""
        starts = [found + len(self.header) for found in _places(self.header, text.text)]
        special = self.template.pattern.search(self.header) is not None
        for start in reversed(starts if special and prompt.endswith(self.header) else []):
            before = text.text[:start]
            if alike(prompt, before) + alike(prompt[::-1], before[::-1]) >= start:
                by = len(prompt) - start
                marks = text.marks and tuple((a + by, b + by) for a, b in text.marks if b > start)
                return Text(prompt + text.text[start:], marks)
        same = alike(prompt, text.text)
        asked, shown = prompt[max(0, same - 20) :], text.text[max(0, same - 20) : same + 20]
        raise RenderError(
            f"the chat template asks for turn {index} of example {name!r} with {_clean(asked)!r} and shows "
            f"it behind {_clean(shown)!r}: the model would learn an answer to what it is never asked. Does "
            "the turn lack its thinking?"
        )


def discover(template: Template) -> Known:
    """How this template wants its messages, where replies begin and what ends them.

    Raises RenderError where it does not say what it is given, or where no reply
    follows its own prompt or ends on a special token.
    """
    known = _continued(_plain(template))
    dialect = replace(known.template.dialect, reasoning=_reasoning(known))
    return _calling(replace(known, template=known.template.reading(dialect)))


def _plain(template: Template) -> Template:
    """Contents as texts, or as lists of parts."""
    refusal: RenderError | None = None
    for parts in (False, True):
        one = template.reading(Dialect(parts=parts))
        try:
            texts = [one.text(PROBE.upto(count), name="probe").text for count in (2, 4)]
        except RenderError as error:
            refusal = refusal or error.with_traceback(None)
            continue
        counts = [[text.count(message.content) for message in PROBE.messages] for text in texts]
        if counts[0] == [1, 1, 0, 0] and counts[1] in (
            [1, 1, 1, 1],
            [1, 0, 1, 1],
        ):  # an answer may be forgotten
            return one
        refusal = refusal or RenderError(
            "the chat template changes, drops or repeats what a message of example 'probe' says: it cannot "
            "be told what a model should learn. Simplify the template"
        )
    assert refusal is not None
    raise refusal


def _continued(template: Template) -> Known:
    """With thoughts closed where otherwise no plain reply would follow its prompt."""
    refusal: RenderError | None = None
    thoughtful = replace(template.dialect, reasoning="field")
    for line, dialect in [*((line, template.dialect) for line in CLOSED), ("", thoughtful)]:
        probe = THOUGHTFUL if dialect is thoughtful else PROBE
        one = Template(line + template.source, template.named, template.special, dialect)
        try:
            known = Known(one, _header(one), _ends(one, probe, probe.then(MORE), "Of course!"), probe)
            known.reply(probe, 1, "probe")
            known.reply(probe, 3, "probe")
        except RenderError as error:
            refusal = refusal or error.with_traceback(None)
            continue
        return known
    assert refusal is not None
    raise refusal


def _header(template: Template) -> str:
    """What two prompts after different questions end on alike, without the end of the question."""
    first, second = (template.text(PROBE.upto(n), prompt=True, name="probe").text for n in (1, 3))
    same = alike(first[::-1], second[::-1])
    tail = first[len(first) - same :]
    closed = template.text(PROBE.upto(1), name="probe").text
    said = PROBE.messages[0].content
    ended = closed[closed.rindex(said) + len(said) :]
    same = alike(tail, ended)
    cut = max((found.end() for found in template.pattern.finditer(tail) if found.end() <= same), default=0)
    rest = tail[cut:]
    special = template.pattern.search(rest)
    plain = rest[: special.start()] if special else rest
    return rest[alike(plain, ended[cut:]) :]


def _ends(template: Template, ended: Conversation, goes_on: Conversation, last: str) -> tuple[str, ...]:
    """The special token that ends a reply, whatever comes after it."""
    texts = [template.text(one, name="probe").text for one in (ended, goes_on)]
    tails = [text.rpartition(last)[2] if last in text else "" for text in texts]
    same = alike(*tails)
    found = [(one[0], one.end()) for one in template.pattern.finditer(tails[0])]
    common = [text for text, end in found if end <= same]
    if not found:
        raise RenderError(
            f"the chat template ends an assistant turn with {tails[0]!r}, which holds no special token: the "
            "model could never learn to stop"
        )
    return ((common or [text for text, _ in found])[-1],)


def _reasoning(known: Known) -> Reasoning:
    """Thoughts in their own field, or before the content, or nowhere."""
    forms: tuple[Reasoning, ...] = ("field", "inline")
    for form in forms:
        one = replace(known, template=known.template.reading(replace(known.template.dialect, reasoning=form)))
        try:
            said = one.reply(THOUGHT, 1, "probe").said
        except RenderError:
            continue
        if said.count("Why not help?") == 1 and said.count("Gladly.") == 1:
            return form
    return "none"


def _calling(known: Known) -> Known:
    """How calls are given, and what ends a reply that calls."""
    base = known.template.dialect
    for empty, arguments in product(("", None), ("object", "text")):
        dialect = replace(base, empty=empty, arguments=arguments)
        one = replace(known, template=known.template.reading(dialect))
        try:
            calling, called = known.suited(CALLING), known.suited(CALLED)
            stops = _ends(one.template, calling, called, "Oslo")
            one = replace(one, stops=tuple(dict.fromkeys((*known.stops, *stops))))
            said = one.reply(calling, 1, "probe").said
            after = one.template.text(called, name="probe").text
        except RenderError:
            continue
        if CALL.name in said and "Oslo" in said and '\\"' not in said and "Much of it." in after:
            shown = one.template.text(calling, name="probe").text
            tools = "Rain of the days" in shown
            return replace(one, template=one.template.reading(replace(dialect, tools=tools)))
    return known


def alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _places(part: str, text: str) -> list[int]:
    """Where `part` begins in the text, wherever it occurs."""
    return [found.start() for found in re.finditer(re.escape(part), text)] if part else []


def _clean(text: str) -> str:
    """Text for people, shortened in the middle."""
    text = text.replace(BREAK, "")
    return text if len(text) <= 120 else f"{text[:60]} ... {text[-60:]}"
