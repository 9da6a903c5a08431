"""Loss weights of tokens: painted on the characters of a rendered text, then read off token by token."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from turnsmith.data.encode import Encoder, Segment
from turnsmith.data.probe import Known, Reply
from turnsmith.data.template import BREAK, CLOSE, OPEN, Text
from turnsmith.errors import RenderError
from turnsmith.types import Conversation, Message

if TYPE_CHECKING:
    from turnsmith.types import Floats, Ints


def policy(conversation: Conversation, train: str) -> list[float]:
    """The loss weight of each message: its own if it has one, else what the policy says."""
    messages = conversation.messages
    of = {role: [i for i, m in enumerate(messages) if m.role == role] for role in ("assistant", "user")}
    learns = {
        "assistant": of["assistant"],
        "last": of["assistant"][-1:],
        "turn": [i for i in of["assistant"] if i > max(of["user"], default=-1)],
        "user": of["user"],
        "calls": [i for i in of["assistant"] if messages[i].calls],
        "all": list(range(len(messages))),
    }[train]
    return [
        (1.0 if i in learns else 0.0) if message.weight is None else message.weight
        for i, message in enumerate(messages)
    ]


class Paint:
    """The weights of one sequence. What is painted later lies on top.

    crossing: tokens that were masked since they lie across the border of two weights.
    """

    def __init__(
        self, known: Known, encoder: Encoder, conversation: Conversation, text: Text, count: int
    ) -> None:
        self.known, self.encoder = known, encoder
        self.conversation = conversation.upto(count)
        self.text = text
        self.crossing = 0
        self._starts = [0]  # of stretches of one weight each
        self._weights = [0.0]
        self._turns = {0: 0}  # where tokens begin -> the message that they belong to
        self._wordless: dict[int, float] = {}  # where sampled ids stand that say nothing -> their weight

    def all(self) -> None:
        """Every character learns."""
        self._paint(0, len(self.text.text), 1.0)

    def content(self, index: int, weight: float, name: str) -> None:
        """What a message that no model writes says, and the special token right behind it."""
        if not self.conversation.messages[index].content.strip():
            return  # there is nothing to find it by
        start, end = self._located(index, name)
        stop = self.known.template.pattern.match(self.text.text, end)
        self._paint(start, stop.end() if stop else end, weight)
        self._spans(self.conversation.messages[index], start)
        self._turns[start] = index

    def reply(self, reply: Reply, weight: float, *, calls_only: bool, name: str) -> None:
        """A reply with the token that ends it, as far as the template's own marks go."""
        message = self.conversation.messages[reply.index]
        self._turns |= {reply.start: reply.index, reply.end: reply.index + 1}
        if message.ids is not None and (message.spans or (calls_only and message.weight is None)):
            raise RenderError(
                f"spans and calls count characters, but message {reply.index} of example {name!r} was "
                "sampled as ids: weigh it as a whole"
            )
        start = self._calls(reply) if calls_only and message.weight is None else reply.start
        for first, last in self.marked(reply, start):
            self._paint(first, last, weight)
        if message.spans:
            self._spans(message, self._located(reply.index, name)[0])
        ids = message.ids
        stops = {self.encoder.special[text] for text in self.known.stops}
        if ids is not None and not (ids and ids[-1] in stops):
            last = self.known.last(reply)
            self._wordless |= {reply.start: weight} if last == reply.start else {}
            self._paint(last, reply.end, 0.0)  # it was cut off: the end is not its own

    def read(self, pieces: Sequence[tuple[Sequence[int], Segment]]) -> tuple[Floats, Ints]:
        """The weight of each token, and the message that it belongs to: between messages that learn, a guess.

        pieces: ids with their segments. Ids of a segment without its own (they were sampled) all have the
        weight of its first character.
        """
        sizes: list[int] = []
        weights: list[float] = []
        turns: list[int] = []
        mixed: list[int] = []
        stretches = [*self._starts, len(self.text.text)]
        places = sorted(self._turns)
        stretch = place = 0
        for number, (ids, segment) in enumerate(pieces):
            while stretches[stretch + 1] <= segment.start and stretch + 2 < len(stretches):
                stretch += 1
            while place + 1 < len(places) and places[place + 1] <= segment.start:
                place += 1
            if segment.ids and segment.end > stretches[stretch + 1]:
                mixed.append(number)
            sizes.append(len(ids))
            wordless = not segment.ids and segment.start == segment.end
            own = self._weights[stretch]
            weights.append(self._wordless.get(segment.start, own) if wordless else own)
            turns.append(self._turns[places[place]])
        found = np.repeat(np.array(weights, np.float32), sizes)
        for number in mixed:
            spans = self.encoder.spans(pieces[number][1], self.text.text)
            at = sum(sizes[:number])
            found[at : at + sizes[number]] = [self._of(*span) for span in spans]
        most = len(self.conversation.messages) - 1
        return found, np.repeat(np.array([min(turn, most) for turn in turns], np.int32), sizes)

    # -------------------------------------------------------------------------------------- details

    def _paint(self, start: int, end: int, weight: float) -> None:
        if end <= start:
            return
        if start > self._starts[-1]:  # in order, as it usually is
            more = [(start, weight), *([(end, self._weights[-1])] if end < len(self.text.text) else [])]
            self._starts += [at for at, _ in more]
            self._weights += [one for _, one in more]
            return
        after = self._weights[bisect_right(self._starts, end) - 1]
        kept = [(s, w) for s, w in zip(self._starts, self._weights, strict=True) if not start <= s <= end]
        kept += [(start, weight), *([(end, after)] if end < len(self.text.text) else [])]
        kept.sort()
        merged = [pair for place, pair in enumerate(kept) if not place or kept[place - 1][1] != pair[1]]
        self._starts, self._weights = [s for s, _ in merged], [w for _, w in merged]

    def _of(self, start: int, end: int) -> float:
        first = bisect_right(self._starts, start) - 1
        last = bisect_right(self._starts, max(end - 1, start)) - 1
        if first == last:
            return self._weights[first]
        self.crossing += 1
        return 0.0

    def _spans(self, message: Message, start: int) -> None:
        """Paint the spans of a message whose content, without the spaces around it, begins at `start`."""
        content = self.known.template.guarded(message.content)
        lead = len(content) - len(content.lstrip())
        place = [at for at, letter in enumerate(content) if letter != BREAK] + [len(content)]
        core = len(content.strip())
        for span in message.spans:
            first, last = (
                min(max(place[min(edge, len(place) - 1)] - lead, 0), core) for edge in (span.start, span.end)
            )
            self._paint(start + first, start + last, span.weight)

    def _located(self, index: int, name: str) -> tuple[int, int]:
        """Where the content of a message stands, without the spaces around it."""
        marked = self.known.template.text(self.conversation, name=name, mark=(index,)).text
        start, end = marked.find(OPEN), marked.find(CLOSE) - 1
        if marked.replace(OPEN, "", 1).replace(CLOSE, "", 1) != self.text.text or not 0 <= start <= end:
            raise RenderError(
                f"the chat template changes what message {index} of example {name!r} says: its characters "
                "cannot be told apart. Weigh other messages, or simplify the template"
            )
        return start, end

    def marked(self, reply: Reply, start: int) -> list[tuple[int, int]]:
        """What the template's own marks leave of a reply from `start` on; all of it where it has none.

        Where a mark reaches up to the token that ends the turn, that token is in it: the model writes it.
        """
        if self.text.marks is None:
            return [(start, reply.end)]
        stop = self.known.last(reply)
        joined: list[tuple[int, int]] = []
        for first, last in self.text.marks:
            if joined and joined[-1][1] == first:
                joined[-1] = (joined[-1][0], last)
            else:
                joined.append((first, last))
        whole = [(first, reply.end if last == stop else last) for first, last in joined]
        return [(max(a, start), min(b, reply.end)) for a, b in whole if a < reply.end and b > start]

    def _calls(self, reply: Reply) -> int:
        """Where the calls of a reply begin: behind what the same message without them says."""
        message = self.conversation.messages[reply.index]
        alone = Message("assistant", message.content, thinking=message.thinking, fields=message.fields)
        asked = self.conversation.upto(reply.index).then(alone)
        other = self.known.reply(asked, reply.index)
        spoken = other.text.text[other.start : self.known.last(other)]
        return reply.start + (len(spoken) if reply.said.startswith(spoken) else 0)
