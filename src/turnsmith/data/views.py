"""Sequences of a conversation: the fewest texts in which every reply that learns stands as the model writes
it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from turnsmith.data.probe import Known, Reply
from turnsmith.data.template import OPEN, Text
from turnsmith.errors import RenderError
from turnsmith.types import Conversation, Message

LEFT, RIGHT = "\ue010", "\ue011"  # around the number of a message that stands for what it says
GAP = re.compile(f"( ?){LEFT}([0-9]+){RIGHT}( ?)")
SHAPES = 1024  # sequences of roles that are remembered
# All that an opaque template may tell apart: roles, which messages say something, and which learn.
Shape: TypeAlias = "tuple[tuple[str, bool, bool], ...]"


@dataclass(frozen=True, slots=True)
class View:
    """One sequence: the text of the first `count` messages, and those replies in it that are as they were
    given."""

    text: Text
    count: int
    replies: list[Reply]


class Views:
    """Makes the sequences of conversations.

    A template that only passes on what messages say is not run again for the same roles: what it made of them
    is kept with gaps, and what messages say is put there.
    """

    def __init__(self, known: Known) -> None:
        self.known = known
        source = known.template.source
        self._fillable = known.template.opaque and LEFT not in source and RIGHT not in source
        self._gapped: dict[Shape, list[_Gapped]] = {}
        self._remembering = replace(known, template=known.template.remembering())

    def of(self, conversation: Conversation, weights: Sequence[float], name: str) -> list[View]:
        """The sequences of a conversation whose messages have these weights, in order.

        Raises RenderError where the template leaves out or alters something that is said.
        """
        shape = _shape(conversation, weights) if self._fillable else None
        if shape is None:
            return _made(self.known, conversation, weights, name)
        gapped = self._gapped.get(shape)
        if gapped is None:
            messages = tuple(_gap(index, message) for index, message in enumerate(conversation.messages))
            made = _made(self._remembering, replace(conversation, messages=messages), weights, name)
            gapped = [_Gapped.of(view) for view in made]
            if len(self._gapped) >= SHAPES:
                self._gapped.clear()
            self._gapped[shape] = gapped
        said = [self.known.template.said(message.content, name) for message in conversation.messages]
        return [one.filled(said) for one in gapped]


def _made(known: Known, conversation: Conversation, weights: Sequence[float], name: str) -> list[View]:
    """The sequences, with the template run for every reply."""
    messages = conversation.messages
    whole = known.template.text(conversation, name=name)
    check_said(known, conversation, whole, name)
    views = [View(whole, len(messages), [])]
    for index in reversed(range(len(messages))):
        message = messages[index]
        learns = _learns(message, weights[index])
        if message.role != "assistant" or not (learns or message.ids is not None):
            continue
        reply = known.reply(conversation, index, name)
        _check_reply(known, message, reply, name)
        if not stands(reply, views[-1].text):
            if not learns:
                continue  # the template rewrote it: later turns see what the template makes of it
            views.append(View(reply.text, index + 1, []))
        views[-1].replies.append(reply)
    others = any(weight > 0 for m, weight in zip(messages, weights, strict=True) if m.role != "assistant")
    needed = others or len(views) == 1 or any(weights[reply.index] > 0 for reply in views[0].replies)
    return views[::-1] if needed else views[:0:-1]


def check_said(known: Known, conversation: Conversation, text: Text, name: str) -> None:
    """All that was said to the model is in the text, in order. Its own replies are checked one by one."""
    at = 0
    for index, message in enumerate(conversation.messages):
        if message.role == "assistant":
            continue
        core = known.template.guarded(message.content).strip()
        found = text.text.find(core, at)
        if found >= 0:
            at = found + len(core)
        elif OPEN not in known.template.text(conversation, name=name, mark=(index,)).text:
            raise RenderError(
                f"the chat template leaves out what message {index} of example {name!r} (role "
                f"{message.role}) says"
            )


def _check_reply(known: Known, message: Message, reply: Reply, name: str) -> None:
    """The reply says all that the message says."""
    said = {"content": message.content, "thinking": message.thinking or ""}
    said |= {f"call of {call.name}": call.name for call in message.calls}
    for what, text in said.items():
        if known.template.guarded(text).strip() not in reply.said:
            closed = what == "thinking" and known.template.dialect.reasoning == "none"
            hint = (
                ". To tune on thoughts, put {%- set enable_thinking = true -%} in front of it"
                if closed
                else ""
            )
            raise RenderError(
                f"the chat template leaves out or alters the {what} of message {reply.index} of example "
                f"{name!r}{hint}"
            )


def stands(reply: Reply, text: Text) -> bool:
    """Whether the text begins with all that the reply's own does, the reply included."""
    return text.text.startswith(reply.text.text[: reply.end])


class _Gap(NamedTuple):
    """Characters `start:end` of a text, where message `at` says something. left, right: whether spaces
    stay."""

    start: int
    end: int
    at: int
    left: bool
    right: bool

    def filled(self, said: Sequence[str]) -> str:
        text = said[self.at]
        text = text if self.left else text.lstrip()
        return text if self.right else text.rstrip()


@dataclass(frozen=True, slots=True)
class _Gapped:
    """A view in which gaps stand for what messages say."""

    view: View
    gaps: list[_Gap]

    @staticmethod
    def of(view: View) -> _Gapped:
        found = GAP.finditer(view.text.text)
        return _Gapped(view, [_Gap(*gap.span(), int(gap[2]), bool(gap[1]), bool(gap[3])) for gap in found])

    def filled(self, said: Sequence[str]) -> View:
        """The view of a conversation that says this."""
        empty = self.view.text.text
        pieces: list[str] = []
        shifts = [0]
        at = 0
        for gap in self.gaps:
            text = gap.filled(said)
            pieces += [empty[at : gap.start], text]
            shifts.append(shifts[-1] + len(text) - (gap.end - gap.start))
            at = gap.end
        text = Text("".join([*pieces, empty[at:]]), None)
        ends = [gap.end for gap in self.gaps]

        def moved(place: int) -> int:
            return place + shifts[bisect_right(ends, place)]

        replies = [Reply(one.index, text, moved(one.start), moved(one.end)) for one in self.view.replies]
        return View(text, self.view.count, replies)


def _shape(conversation: Conversation, weights: Sequence[float]) -> Shape | None:
    """None where more than roles and contents may reach the template, or where a message is all spaces."""
    if conversation.tools:
        return None
    found: list[tuple[str, bool, bool]] = []
    for message, weight in zip(conversation.messages, weights, strict=True):
        more = message.fields or message.calls or message.thinking or message.name or message.call_id
        if more or message.ids is not None or message.role == "text" or message.content.isspace():
            return None
        found.append((message.role, bool(message.content), _learns(message, weight)))
    return tuple(found)


def _learns(message: Message, weight: float) -> bool:
    return weight > 0 or any(span.weight > 0 for span in message.spans)


def _gap(index: int, message: Message) -> Message:
    return replace(message, content=f" {LEFT}{index}{RIGHT} ") if message.content else message
