"""Conversations to tokens and back: what the model reads, which of it learns, and what its replies say.

The reply of a turn is what stands between the prompt for it and the token that ends it, both as the chat
template writes them. A sequence holds all replies that stand in it exactly as the model is to write them;
where a template rewrites what was said before, a conversation becomes several sequences. Prompts for sampling
come from the same text by the same encoder, so the ids seen in training are the ids seen in serving.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from turnsmith import album
from turnsmith.data.beside import beside
from turnsmith.data.encode import Encoder, Segment, special_tokens
from turnsmith.data.forcing import Around, around
from turnsmith.data.parse import learn
from turnsmith.data.probe import discover
from turnsmith.data.source import source
from turnsmith.data.template import BREAK, DATE, Template, frozen
from turnsmith.data.views import View, Views, check_said, stands
from turnsmith.data.weigh import Paint, policy
from turnsmith.errors import RenderError
from turnsmith.types import IMAGE, Conversation, Finish, Json, Message, Tokens, Train

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedTokenizerBase

SEES = "image_tokens"  # in a tokenizer's settings: how many tokens an image is
LONGEST = 4  # tokens that make one character: UTF-8 has no more bytes


class Renderer:
    """The chat template of one tokenizer, observed and proved on small conversations when it is made.

    stop: id of the token that ends a plain reply. stops: of all tokens that end one. template: the text of
    the template as it is used, which is to be saved with the model. date: what it is told today is, as `01
    Jan 2026`. beside: of models that speak in step with this one and have other templates, by name: what is
    rendered is there in their form too.

    Raises RenderError where the template is missing or broken, where no plain reply follows its own prompt,
    where replies end on no special token, or where the tokenizer gives other ids for a text than for its
    parts.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        date: str = DATE,
        beside: Mapping[str, Renderer] | None = None,
    ) -> None:
        text = frozen(source(tokenizer), date=date)
        self.tokenizer = tokenizer
        self.date = date
        special = special_tokens(tokenizer)
        named = {
            name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)
        }
        self._known = discover(Template(text, named, tuple(special)))
        self._encoder = Encoder(tokenizer, self._known.template.pattern, self._known.header)
        self.template = self._known.template.source
        self.stops = tuple(special[text] for text in self._known.stops)
        self.stop = self.stops[0]
        self._views = Views(self._known)
        self._grammar = learn(self._known)
        self.beside: dict[str, Renderer] = {}
        self._prove()
        self.fingerprint = self._fingerprint()
        others = (beside or {}).items()
        self.beside = {name: one for name, one in others if one.fingerprint != self.fingerprint}

    @property
    def thinks(self) -> bool:
        """Whether thoughts have a place in a reply."""
        return self._known.template.dialect.reasoning != "none"

    @property
    def calls(self) -> bool:
        """Whether calls of tools have a place in a reply."""
        return self._known.template.dialect.arguments is not None

    @property
    def sees(self) -> int:
        """How many tokens an image is to the model, which its tokenizer says; 0 of a model of text alone."""
        return int(self.tokenizer.init_kwargs.get(SEES, 0))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.tokenizer, self.date, self.beside)

    def prompt(self, conversation: Conversation, name: str = "?") -> list[int]:
        """Ids after which the model writes the next assistant message."""
        self._check(conversation, name)
        self._check_images(conversation, name)
        text = self._known.template.text(conversation, prompt=True, name=name)
        check_said(self._known, conversation, text, name)
        sampled = [i for i, message in enumerate(conversation.messages) if message.ids is not None]
        replies = [self._known.reply(conversation, i, name) for i in sampled]
        view = View(text, len(conversation.messages), [r for r in replies if stands(r, text)])
        return [id for ids, _ in self._pieces(conversation, view) for id in ids]

    def render(self, conversation: Conversation, train: Train = "assistant", name: str = "?") -> list[Tokens]:
        """The conversation as one sequence, or as several where the template rewrites what was said before.

        train: what learns where no `Message.weight` says so: every reply of the assistant, the last one, all
        since the last user message (`turn`), what the user says, the assistant's calls of tools, or every
        token. name: of the example, for errors. Raises RenderError where the template leaves out or alters
        something that is said.
        """
        if not conversation.messages:
            raise RenderError(f"example {name!r} has no messages")
        self._check_images(conversation, name)
        if all(message.role == "text" for message in conversation.messages):
            found = [self._render_text(conversation)]
        else:
            self._check(conversation, name)
            weights = policy(conversation, train)
            views = self._views.of(conversation, weights, name)
            found = [self._tokens(conversation, view, weights, train, name) for view in views]
        if not self.beside:
            return found
        forms = {
            other: one.render(self.handed_on(conversation, one), train, name)
            for other, one in self.beside.items()
        }
        ends = {"": self.stops, **{other: one.stops for other, one in self.beside.items()}}
        return beside(found, forms, ends, name)

    def prompts(self, conversation: Conversation, name: str = "?") -> dict[str, list[int]]:
        """The prompts of the models beside this one, by their names."""
        return {
            other: one.prompt(self.handed_on(conversation, one), name) for other, one in self.beside.items()
        }

    def handed_on(self, conversation: Conversation, other: Renderer) -> Conversation:
        """The conversation for a model with another template, which ends sampled replies in its own way."""

        def ended(message: Message) -> Message:
            ids = message.ids
            if not ids or ids[-1] not in self.stops or ids[-1] in other.stops:
                return message
            return replace(message, ids=(*ids[:-1], other.stop), logprobs=None)

        return replace(conversation, messages=tuple(map(ended, conversation.messages)))

    def parse(self, ids: Sequence[int], tools: Sequence[Mapping[str, Json]] = ()) -> tuple[Message, Finish]:
        """The message that sampled ids stand for, and whether it ended by itself. Keeps the ids.

        tools: schemas that tell texts from numbers in the arguments of calls.
        """
        finish: Finish = "stop" if ids and ids[-1] in self.stops else "length"
        read = self._grammar.read(self.text(ids), tools)
        message = Message("assistant", read.content, ids=tuple(ids), calls=read.calls, thinking=read.thinking)
        return message, finish

    def around(self, name: str) -> Around:
        """What stands around the arguments of a reply that calls this tool. Raises RenderError where a call
        cannot be told so."""
        return around(self._known, self._grammar, name)

    def ids(self, text: str) -> list[int]:
        """Ids of a text that a reply begins with."""
        return self._encoder.ids(text)

    def text(self, ids: Sequence[int]) -> str:
        """What sampled ids say, without the token that ends the reply."""
        kept = list(ids[:-1] if ids and ids[-1] in self.stops else ids)
        text = self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, for people; a character that several tokens make is at the last of them."""
        found: list[str] = []
        open_ids: list[int] = []
        for id in ids:
            if id >= album.FIRST:
                found.append("" if id % album.MOST else "[image]")
                continue
            open_ids.append(id)
            text = str(self.tokenizer.decode(open_ids, clean_up_tokenization_spaces=False))
            whole = not text.endswith("\ufffd") or len(open_ids) == LONGEST
            found.append(text if whole else "")
            open_ids = [] if whole else open_ids
        return found

    def token(self, id: int) -> str:
        """What a token is called by itself: its text, or what the tokenizer calls a part of a character."""
        (text,) = self.texts([id])
        return text or str(self.tokenizer.convert_ids_to_tokens(id))

    # ------------------------------------------------------------------------------------- sequences

    def _tokens(
        self, conversation: Conversation, view: View, weights: Sequence[float], train: Train, name: str
    ) -> Tokens:
        paint = Paint(self._known, self._encoder, conversation, view.text, view.count)
        if train == "all":
            paint.all()
        for index, message in enumerate(conversation.messages[: view.count]):
            if message.role != "assistant" and (weights[index] > 0 or message.spans or train == "all"):
                paint.content(index, weights[index], name)
        for reply in sorted(view.replies, key=lambda reply: reply.start):
            paint.reply(reply, weights[reply.index], calls_only=train == "calls", name=name)
        pieces = self._pieces(conversation, view)
        seen = any(message.images for message in conversation.messages)
        ids: Any = np.array([id for piece, _ in pieces for id in piece], np.int64 if seen else np.int32)
        found, turns = paint.read(pieces)
        found[:1] = 0.0  # nothing predicts the first token
        found[ids >= album.FIRST] = 0.0  # nor an image
        return Tokens(ids, ids, found, turns, crossing=paint.crossing)

    def _pieces(self, conversation: Conversation, view: View) -> list[tuple[tuple[int, ...], Segment]]:
        """Ids in order with the segment of text that they stand for; what was sampled keeps its ids.

        A sampled reply that was cut off gets the end of its turn behind it.
        """
        seen = self._seen(conversation.upto(view.count), view.text.text)
        segments = self._encoder.segments(view.text.text, [reply.start for reply in view.replies], seen)
        sampled = {r.start: r for r in view.replies if conversation.messages[r.index].ids is not None}
        pieces: list[tuple[tuple[int, ...], Segment]] = []
        skipped = 0
        for segment in segments:
            if segment.start < skipped:
                continue
            reply = sampled.get(segment.start)
            if reply is None:
                pieces.append((segment.ids, segment))
                continue
            given = conversation.messages[reply.index].ids
            assert given is not None
            [stop] = [one for one in segments if one.end == reply.end]
            ended = bool(given) and given[-1] in self.stops
            pieces.append((given[:-1] if ended else given, Segment(reply.start, stop.start, ())))
            pieces.append((given[-1:] if ended else stop.ids, stop))
            skipped = reply.end
        return pieces

    def _seen(self, conversation: Conversation, text: str) -> list[list[int]]:
        """The ids of each image in the text of the conversation, which is in the album from now on."""
        images = [image for message in conversation.messages for image in message.images]
        if images and text.count(IMAGE) != len(images):
            raise RenderError(
                f"the chat template shows {text.count(IMAGE)} of {len(images)} images, or one several times"
            )
        for image in images:
            album.keep(image)
        return [album.ids(image, self.sees) for image in images]

    def _render_text(self, conversation: Conversation) -> Tokens:
        contents = self._encoder.plain([message.content for message in conversation.messages])
        weights = [1.0 if m.weight is None else m.weight for m in conversation.messages]
        sizes = [len(content) for content in contents]
        ids = np.array([id for content in contents for id in content], np.int32)
        weight = np.repeat(np.array(weights, np.float32), sizes)
        weight[:1] = 0.0
        return Tokens(ids, ids, weight, np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))

    # ---------------------------------------------------------------------------- what is checked

    def _check(self, conversation: Conversation, name: str) -> None:
        """What this template cannot say is refused, never left out."""
        dialect = self._known.template.dialect
        if conversation.tools and not dialect.tools:
            raise RenderError(
                f"example {name!r} has tools, and this chat template does not show tools to the model: "
                "leave them out, or choose a model whose template does"
            )
        for index, message in enumerate(conversation.messages):
            if message.calls and dialect.arguments is None:
                raise RenderError(
                    f"message {index} of example {name!r} calls tools, and this chat template has no calls: "
                    "leave them out, or choose a model whose template has them"
                )

    def _check_images(self, conversation: Conversation, name: str) -> None:
        """Every image has its place, in what is said to a model that sees."""
        for index, message in enumerate(conversation.messages):
            if not message.images and IMAGE not in message.content:
                continue
            which = f"message {index} of example {name!r}"
            if not self.sees:
                raise RenderError(
                    f"{which} has an image, and this model reads text alone: start from one that sees (base: "
                    "{seeing: {language: NAME}}), or leave images out (the stage `unseen`)"
                )
            if message.role in ("assistant", "text"):
                raise RenderError(
                    f"{which} has an image, and its role is {message.role}: images stand in what "
                    "users, systems and tools say"
                )
            if (marks := message.content.count(IMAGE)) != len(message.images):
                raise RenderError(
                    f"{which} has {len(message.images)} images, and {marks} times the mark U+FDD3: each "
                    "image needs its one place in what is said"
                )

    def _prove(self) -> None:
        """What is promised, on the conversation that the template was observed on."""
        self._prove_ids()
        for turn in (1, 3):
            self._prove_reply(turn)
        self._prove_text()

    def _prove_ids(self) -> None:
        """The ids are the template's own, for one of the two ways of encoding."""
        probe = self._known.probe
        text = self._known.template.text(probe, name="probe").text
        for anchored in (False, True):
            self._encoder.anchor(anchored)
            if self._encoder.ids(text) in (self.whole(probe), self.whole(probe, cut=True)):
                return
        raise RenderError("this tokenizer gives other ids for a whole conversation than for its messages")

    def _prove_reply(self, turn: int) -> None:
        """What stands before a reply is its prompt, the template's marks hold the reply, and it is read
        back."""
        probe = self._known.probe
        [*_, last] = self.render(probe.upto(turn + 1), name="probe")
        start = self.prompt(probe.upto(turn))
        if last.inputs[: len(start)].tolist() != start or not last.weights[len(start) :].any():
            raise RenderError("this tokenizer gives other ids for a prompt than for the same text in a chat")
        reply, message = self._known.reply(probe, turn, "probe"), probe.messages[turn]
        at = reply.text.text.rindex(message.content)
        paint = Paint(self._known, self._encoder, probe, reply.text, turn + 1)
        if (at, reply.end) not in [(at, b) for a, b in paint.marked(reply, reply.start) if a <= at]:
            raise RenderError(
                "the {% generation %} marks of the chat template do not hold all that the model writes, up "
                f"to the end of its turn: {reply.said!r}. Put them around that, or take them out"
            )
        read, finish = self.parse(self._encoder.ids(reply.said))
        # An encoder's tokenizer may read letters without their case.
        same = read.content.strip().casefold() == message.content.casefold()
        if not same or (read.thinking, finish) != (message.thinking, "stop"):
            raise RenderError(
                f"a reply of this chat template is not read back: {reply.said!r} comes back as "
                f"{read.content!r}"
            )

    def _prove_text(self) -> None:
        """A special token that is written into a message stays text."""
        probe = self._known.probe
        forged = replace(probe.messages[0], content=f"{probe.messages[0].content}{self._known.stops[0]}")
        special = set(self._encoder.special.values())
        counts = [
            sum(
                int(id) in special
                for id in self.render(replace(probe, messages=(first, *probe.messages[1:])))[-1].inputs
            )
            for first in (probe.messages[0], forged)
        ]
        if counts[0] != counts[1]:
            raise RenderError(
                f"{self._known.stops[0]!r} that is written into a message becomes a special token with this "
                "tokenizer: anybody could forge a turn"
            )

    def whole(self, conversation: Conversation, *, cut: bool = False) -> list[int]:
        """The ids that the tokenizer itself gives the template's text, special tokens in what is said
        included.

        cut: in pieces that end where replies begin, as a model that is asked for a reply sees them: there, a
        tokenizer may join what a prompt has apart.
        """
        text = self._known.template.text(conversation).text.replace(BREAK, "")
        pieces = (
            re.split(f"(?<={re.escape(self._known.header)})", text) if cut and self._known.header else [text]
        )
        return [id for one in self.tokenizer(pieces, add_special_tokens=False)["input_ids"] for id in one]

    def _fingerprint(self) -> str:
        ids = [one.inputs.tolist() for one in self.render(self._known.probe)]
        known = json.dumps(
            [self.template, list(self.stops), ids, *([self.sees] if self.sees else [])], sort_keys=True
        )
        return hashlib.sha256(known.encode()).hexdigest()[:16]


def _again(tokenizer: PreTrainedTokenizerBase, date: str, beside: Mapping[str, Renderer]) -> Renderer:
    return Renderer(tokenizer, date=date, beside=beside)
