"""Replies back to messages: content, thoughts and calls, in the notation that a template was seen to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from turnsmith.data.calls import NOTATIONS, Block, Notation, types_of
from turnsmith.data.probe import CALLING, PROBE, THOUGHT, Known
from turnsmith.errors import RenderError
from turnsmith.types import Call, Conversation, Json, Message

SPEAKING = replace(CALLING.messages[1], content="I look it up.")
PENSIVE = replace(CALLING.messages[1], thinking=THOUGHT.messages[1].thinking)


@dataclass(frozen=True, slots=True)
class Grammar:
    """What stands around the parts of a reply.

    before, after: around what a plain reply says. opening: in front of a thought; None where there are none.
    closing: what may come between a thought and content, and to_call: between a thought and a call. notation:
    of calls. between: what comes between content and a call.
    """

    before: str = ""
    after: str = ""
    opening: str | None = None
    closing: tuple[str, ...] = ()
    to_call: str | None = None
    notation: Notation | None = None
    between: str = ""

    def read(self, reply: str, tools: Sequence[Mapping[str, Json]] = ()) -> Message:
        """The message that a reply, without the end of its turn, stands for.

        tools: whose schemas tell texts from numbers where the notation does not. What fits no notation is
        content.
        """
        reply = reply.removesuffix(self.after)
        blocks = self.notation(reply, types_of(tools)) if self.notation else []
        head = reply[: blocks[0].start] if blocks else reply
        tail = reply[blocks[-1].end :] if blocks else ""
        thinking, head = self._thought(head, bool(blocks))
        if blocks:
            head = head.removesuffix(self.between).strip("\n")
        calls = tuple(call for block in blocks for call in block.calls)
        return Message("assistant", head + tail.strip("\n"), calls=calls, thinking=thinking)

    def _thought(self, head: str, calls: bool) -> tuple[str | None, str]:
        """The thought, and what comes after it."""
        opened = self.opening is not None and head.startswith(self.opening.rstrip())
        empty = bool(self.before) and head.startswith(self.before)
        if self.opening is None or not opened or (empty and not self.opening):
            return None, head.removeprefix(self.before)
        inner = head.removeprefix(self.opening.rstrip()).removeprefix("\n")
        for closing in self.closing:
            thinking, found, rest = inner.partition(closing)
            if found:
                return thinking.rstrip("\n") or None, rest.lstrip("\n")
        if calls and self.to_call is not None and inner.endswith(self.to_call):
            return inner.removesuffix(self.to_call) or None, ""
        return None, head.removeprefix(self.before)


def learn(known: Known) -> Grammar:
    """The grammar of a template, from what it makes of a reply of each sort."""
    thought = THOUGHT.messages[1]
    grammar = Grammar()
    if known.probe == PROBE:
        before, _, after = writes(known, PROBE.messages[1]).partition(PROBE.messages[1].content)
        grammar = Grammar(before, after)
    if known.template.dialect.reasoning != "none":
        assert thought.thinking is not None
        text = writes(known, thought)
        opening, _, rest = text.partition(thought.thinking)
        closing, _, after = rest.partition(thought.content)
        closings = dict.fromkeys(one for one in (closing, closing.strip()) if one)
        grammar = replace(grammar, after=after, opening=opening, closing=tuple(closings))
    if known.template.dialect.arguments is None:
        return grammar
    for notation in NOTATIONS:
        one = _calling(known, replace(grammar, notation=notation))
        if one is not None:
            return one
    return grammar


def _calling(known: Known, grammar: Grammar) -> Grammar | None:
    """The grammar with this notation, if it reads back what the template makes of calls."""
    notation = grammar.notation
    assert notation is not None
    text = writes(known, CALLING.messages[1])
    if _calls(notation(text, {})) != _given(CALLING.messages[1]):
        return None
    if grammar.opening is not None:
        assert PENSIVE.thinking is not None
        grammar = replace(grammar, to_call=_until_call(known, notation, PENSIVE, PENSIVE.thinking))
    return replace(grammar, between=_until_call(known, notation, SPEAKING, SPEAKING.content) or "")


def _until_call(known: Known, notation: Notation, message: Message, said: str) -> str | None:
    """What the template puts between something said and a call; None where it does not put it before one."""
    try:
        text = writes(known, message)
    except RenderError:
        return None
    blocks: list[Block] = notation(text, {})
    at = text.find(said)
    return text[at + len(said) : blocks[0].start] if blocks and 0 <= at < blocks[0].start else None


def writes(known: Known, message: Message) -> str:
    """What the model writes for this message, without the end of the turn."""
    asked = replace(PROBE.upto(1), tools=CALLING.tools if message.calls else ())
    conversation = known.suited(Conversation((*asked.messages, message), asked.tools))
    reply = known.reply(conversation, 1, "probe")
    ends = [found.start() for found in known.template.pattern.finditer(reply.said)]
    return reply.said[: ends[-1]]


def _calls(blocks: Sequence[Block]) -> list[Call]:
    return [call for block in blocks for call in block.calls]


def _given(message: Message) -> list[Call]:
    return [Call(call.name, call.arguments) for call in message.calls]
