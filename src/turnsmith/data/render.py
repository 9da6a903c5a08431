"""Conversations to tokens and back: the only module that knows chat templates, loss masks and stop tokens.

A template is run once over a conversation whose contents are put between two marks. What stands between the
marks is content and is tokenised with special tokens off, so that nobody can write a turn marker into a
message; what stands outside is the template's own text. Prompts for sampling come from the same pieces, so
the ids seen in training are the ids seen in serving.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from turnsmith.errors import RenderError
from turnsmith.types import Conversation, Finish, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\ue000", "\ue001"  # private-use characters; content that holds one is refused
PIECES = re.compile(f"{OPEN}(.*?){CLOSE}", re.DOTALL)
PROBE = Conversation(
    (
        Message("user", "Zwei Fragen?"),
        Message("assistant", "Gladly."),
        Message("user", "And two more."),
        Message("assistant", "Of course!"),
    )
)

Train = Literal["assistant", "last"]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Token ids of one stretch of a rendered conversation. message: index if it is content, else None.
    text: of a content, as the template left it."""

    ids: tuple[int, ...]
    message: int | None = None
    text: str = ""


class Renderer:
    """The chat template of one tokenizer, proved on a probe when it is made.

    Raises RenderError where the template is missing, ends assistant turns by no special token, rewrites
    earlier turns, or tokenises differently in pieces than as a whole.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        if not tokenizer.chat_template:
            raise RenderError(
                "this tokenizer has no chat template: a base model cannot be tuned on chats before one is "
                "chosen. Put a chat_template.jinja beside its tokenizer files"
            )
        self._template_ids = lru_cache(maxsize=4096)(self._encode_template)
        self.stop = self._find_stop()
        self._prove()
        self.fingerprint = self._fingerprint()

    def prompt(self, conversation: Conversation) -> list[int]:
        """Ids after which the model writes the next assistant message."""
        pieces = self._pieces(conversation, generation=True)
        return [id for piece in self._with_sampled(conversation, pieces) for id in piece.ids]

    def render(self, conversation: Conversation, train: Train = "assistant", name: str = "?") -> list[Tokens]:
        """The whole conversation; loss on the contents of assistant messages and the stop token after each.

        train: which assistant messages learn where `Message.weight` is None. name: the example's id, for
        errors. A sampled message that ended without a stop token gets one with weight 0.
        """
        if not conversation.messages:
            raise RenderError(f"example {name!r} has no messages")
        if all(message.role == "text" for message in conversation.messages):
            return [self._render_text(conversation)]
        weights_of = _policy(conversation, train)
        pieces = self._with_sampled(conversation, self._pieces(conversation, name=name))
        ids: list[int] = []
        weights: list[float] = []
        turns: list[int] = []
        turn = 0
        for place, piece in enumerate(pieces):
            before = pieces[place - 1].message if place else None
            if piece.message is not None:
                turn = piece.message
                own = self._content_weights(conversation.messages[turn], piece, weights_of[turn])
            else:
                own = [0.0] * len(piece.ids)
                if before is not None and conversation.messages[before].role == "assistant":
                    own = self._after_turn(
                        conversation.messages[before], piece.ids, weights_of[before], name, before
                    )
            ids += piece.ids
            weights += own
            turns += [turn] * len(piece.ids)
        weights[0] = 0.0  # nothing predicts the first token
        array = np.array(ids, np.int32)
        return [Tokens(array, array, np.array(weights, np.float32), np.array(turns, np.int32))]

    def parse(self, ids: Sequence[int]) -> tuple[Message, Finish]:
        """The message that sampled ids stand for, and whether it ended by itself. Keeps the ids."""
        finish: Finish = "stop" if ids and ids[-1] == self.stop else "length"
        content = ids[:-1] if finish == "stop" else ids
        return Message("assistant", self._decode(content), ids=tuple(ids)), finish

    # ------------------------------------------------------------------------------------ pieces

    def _pieces(self, conversation: Conversation, generation: bool = False, name: str = "?") -> list[_Piece]:
        """Alternating template text and contents, tokenised."""
        messages = conversation.messages
        if conversation.tools:
            raise RenderError(f"example {name!r} has tools, which cannot be rendered yet: leave them out")
        for index, message in enumerate(messages):
            if message.calls or message.call_id or message.thinking:
                raise RenderError(
                    f"message {index} of example {name!r} has calls or thinking, which cannot be rendered yet"
                )
            if message.role == "text":
                raise RenderError(
                    f"message {index} of example {name!r} is raw text: it has no place in a chat"
                )
            if OPEN in message.content or CLOSE in message.content:
                raise RenderError(f"message {index} of example {name!r} holds U+E000 or U+E001: remove it")
        plain = self._template([m.content for m in messages], messages, generation, name)
        marked = self._template([f"{OPEN}{m.content}{CLOSE}" for m in messages], messages, generation, name)
        stretches = PIECES.split(marked)
        if "".join(stretches) != plain:
            contents = [m.content.strip() for m in messages]  # templates that strip contents
            marked = self._template(
                [f"{OPEN}{content}{CLOSE}" for content in contents], messages, generation, name
            )
            stretches = PIECES.split(marked)
        if "".join(stretches) != plain or len(stretches) != 2 * len(messages) + 1:
            raise RenderError(
                f"the chat template changes, drops or repeats what a message of example {name!r} says: "
                "its tokens cannot be told apart. Simplify the messages or the template"
            )
        contents = self._encode_contents(stretches[1::2])
        pieces = [_Piece(self._template_ids(stretches[0]))]
        for index, (content, after) in enumerate(zip(contents, stretches[2::2], strict=True)):
            pieces += [_Piece(content, index, stretches[2 * index + 1]), _Piece(self._template_ids(after))]
        return pieces

    def _with_sampled(self, conversation: Conversation, pieces: list[_Piece]) -> list[_Piece]:
        """Contents that were sampled keep their ids; a stop token that was sampled is not written twice."""
        kept: list[_Piece] = []
        for piece in pieces:
            sampled = None if piece.message is None else conversation.messages[piece.message].ids
            if sampled is not None:
                ended = bool(sampled) and sampled[-1] == self.stop
                piece = replace(piece, ids=sampled[:-1] if ended else sampled)
            kept.append(piece)
        return kept

    def _content_weights(self, message: Message, piece: _Piece, weight: float) -> list[float]:
        if not message.spans:
            return [weight] * len(piece.ids)
        if message.ids is not None:
            raise RenderError(
                "spans count characters, but this message was sampled as ids: weigh it as a whole"
            )
        encoded = self.tokenizer(
            piece.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        weights = [weight] * len(piece.ids)
        stripped = message.content.find(piece.text)  # characters that the template took off the front
        if stripped < 0:
            raise RenderError("spans count characters, but the chat template changes those of this message")
        for place, (first, last) in enumerate(encoded["offset_mapping"]):
            start, end = first + stripped, last + stripped
            for span in message.spans:
                if span.start <= start and end <= span.end:
                    weights[place] = span.weight
                elif start < span.end and span.start < end:
                    weights[place] = 0.0  # a token across the border of a span belongs to neither side
        return weights

    def _after_turn(
        self, message: Message, ids: Sequence[int], weight: float, name: str, turn: int
    ) -> list[float]:
        """Weights of the template's text after an assistant message: the stop token learns, the rest does
        not."""
        if not ids or ids[0] != self.stop:
            raise RenderError(
                f"turn {turn} of example {name!r} does not end on {self._decode([self.stop])!r}: the model "
                "would never learn to stop. Does the template end every assistant turn?"
            )
        cut_off = message.ids is not None and not (message.ids and message.ids[-1] == self.stop)
        return [0.0 if cut_off else weight] + [0.0] * (len(ids) - 1)

    def _render_text(self, conversation: Conversation) -> Tokens:
        contents = self._encode_contents([message.content for message in conversation.messages])
        weights = [1.0 if m.weight is None else m.weight for m in conversation.messages]
        sizes = [len(content) for content in contents]
        ids = np.array([id for content in contents for id in content], np.int32)
        weight = np.repeat(np.array(weights, np.float32), sizes)
        weight[:1] = 0.0
        return Tokens(ids, ids, weight, np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))

    # --------------------------------------------------------------------- tokenizer and template

    def _template(
        self, contents: Sequence[str], messages: Sequence[Message], generation: bool, name: str
    ) -> str:
        from jinja2 import TemplateError

        rows = [
            {
                **message.fields,
                **({"name": message.name} if message.name else {}),
                "role": message.role,
                "content": content,
            }
            for message, content in zip(messages, contents, strict=True)
        ]
        try:
            text = self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=generation)
        except TemplateError as error:
            roles = " ".join(message.role for message in messages)
            raise RenderError(
                f"the chat template refuses example {name!r} (roles: {roles}): {error}"
            ) from None
        assert isinstance(text, str)
        return text

    def _encode_contents(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        return [tuple(ids) for ids in encoded["input_ids"]]

    def _encode_template(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, ids: Sequence[int]) -> str:
        text = self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    # ---------------------------------------------------------------------------- what is proved

    def _find_stop(self) -> int:
        texts = [f"{OPEN}{message.content}{CLOSE}" for message in PROBE.messages]
        after = PIECES.split(self._template(texts, PROBE.messages, False, "probe"))[-1]
        ids = self._template_ids(after)
        special = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        if not ids or ids[0] not in special:
            raise RenderError(
                f"the chat template ends an assistant turn with {after!r}, which starts with no special "
                "token: the model could never learn to stop"
            )
        return ids[0]

    def _prove(self) -> None:
        whole: Any = self.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in PROBE.messages], return_dict=True
        )
        pieces = self.render(PROBE, name="probe")[0].inputs.tolist()
        if pieces != list(whole["input_ids"]):
            raise RenderError("this tokenizer gives other ids for a whole conversation than for its messages")
        for turn in (1, 3):
            start = self.prompt(PROBE.upto(turn))
            if pieces[: len(start)] != start:
                raise RenderError(
                    "the chat template rewrites earlier turns: a later prompt does not extend them"
                )

    def _fingerprint(self) -> str:
        template = self.tokenizer.chat_template
        known = json.dumps([template, self.stop, self.render(PROBE)[0].inputs.tolist()], sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()[:16]


def _policy(conversation: Conversation, train: Train) -> list[float]:
    """The loss weight of each message: its own if it has one, else what the policy says."""
    assistants = [i for i, message in enumerate(conversation.messages) if message.role == "assistant"]
    learns = set(assistants if train == "assistant" else assistants[-1:])
    return [
        (1.0 if i in learns else 0.0) if message.weight is None else message.weight
        for i, message in enumerate(conversation.messages)
    ]


def cut_to_turns(tokens: Tokens, limit: int) -> Tokens | None:
    """The tokens, cut after the last trained turn that ends within `limit`; None where not one does."""
    if len(tokens) <= limit:
        return tokens
    trained = np.flatnonzero(tokens.weights)
    ends = [
        i + 1
        for i, after in zip(trained, [*trained[1:], -1], strict=True)
        if after < 0 or tokens.turns[after] != tokens.turns[i]
    ]
    fitting = [int(end) for end in ends if end <= limit]
    return tokens.cut(fitting[-1]) if fitting else None
