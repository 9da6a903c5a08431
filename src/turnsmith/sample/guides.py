"""Replies that keep to a grammar or to a JSON schema: which ids may come next, as llguidance finds it.

An id is allowed where its bytes go on with what was said and the whole can still become a text of the
grammar, however that text is cut into tokens. An id that stops a reply is allowed where the text is complete,
and nowhere else. Special tokens never stand for their text; a grammar names one that it wants, as `<think>`
without quotes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.numpy import fill_next_token_bitmask, get_bitmask_shape
from numpy.typing import NDArray
from torch import Tensor

from turnsmith.errors import ModelError, UsageError
from turnsmith.types import Json, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# 40: more than JSON is indented by; a model that falls into blanks would else write them to the end.
BLANKS = r"[ \t\r\n]{1,40}"
# Where only one text can follow, llguidance would allow one token alone: that which the tokenizer makes of
# the text, and a special token where the text looks like one.
UNFORCED = '%llguidance {"no_forcing": true}'
SHOWN = 60  # characters of what was said that an error shows
_BRIEF = "<non-verbose/>"  # llguidance's word for the details that it leaves out
_LIMITS = LLParserLimits(verbose_errors=False)


class Vocabulary:
    """The tokens of one tokenizer as bytes, for a model whose logits have `size` columns.

    size: may be larger than the tokenizer, whose ids are then all that is allowed, or smaller. stop: the ids
    that end a reply, at least one. Making one takes a second or two for 50,000 tokens: keep it.
    Raises UsageError where no id of the model stops a reply, and ModelError where the tokenizer does not say
    which bytes its tokens are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, size: int, *, stop: Sequence[int]) -> None:
        self.tokenizer, self.size, self.stop = tokenizer, size, tuple(stop)
        self.known = min(size, len(tokenizer))
        if not self.stop:
            raise UsageError("no id stops a reply: one that keeps to a grammar would have no end.")
        if beyond := [id for id in self.stop if not 0 <= id < self.known]:
            raise UsageError(f"stop id {beyond[0]} is none of the {self.known} ids of model and tokenizer.")
        self.tokens = _tokens(tokenizer, self.stop)

    def guide(self, sampling: Sampling, given: Sequence[int] = ()) -> Guide | None:
        """A guide for a reply that begins with the ids `given`; None where `sampling` asks for no grammar.

        Raises UsageError where schema or grammar are wrong or cannot be met, or do not allow what is given.
        """
        if sampling.schema is None and sampling.grammar is None:
            return None
        what = "grammar" if sampling.schema is None else "schema"
        guide = Guide(self, _matcher(self.tokens, sampling, what), what)
        guide.begin(given)
        return guide

    def text(self, ids: Sequence[int]) -> str:
        """What ids say, quoted and cut at the front, for errors."""
        text = str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
        return repr(text if len(text) <= SHOWN else f"...{text[-SHOWN:]}")


class Guide:
    """One reply under way. Made by `Vocabulary.guide`; rows that begin alike take copies of one.

    failure: why no id can follow although the text is not complete, as a sentence, or None. Such a guide
    allows the stop ids, so that its row has something to draw, and never becomes `ended`.
    """

    def __init__(self, vocabulary: Vocabulary, matcher: LLMatcher, what: str) -> None:
        self.vocabulary, self.what = vocabulary, what
        self.failure: str | None = None
        self._matcher = matcher
        self._taken: list[int] = []
        self._over = False

    @property
    def ended(self) -> bool:
        """Whether what was taken is a complete text of the grammar; more may be allowed to follow."""
        return self._over or (self.failure is None and self._matcher.is_accepting())

    def copy(self) -> Guide:
        """A guide in the same state that goes its own way."""
        guide = Guide(self.vocabulary, self._matcher.deep_copy(), self.what)
        guide.failure, guide._taken, guide._over = self.failure, list(self._taken), self._over
        return guide

    def take(self, id: int) -> None:
        """Says that `id` came next; one that is not allowed is a failure.

        After a failure, or a stop id behind a complete text, nothing changes any more.
        """
        if self._over or self.failure:
            return
        if id in self.vocabulary.stop and self.ended:
            self._over = True
        elif id in self.vocabulary.stop or not self._matcher.consume_token(id):
            self.fail(f"{self.vocabulary.text([id])} is not allowed")
        else:
            self._taken.append(id)

    def begin(self, given: Sequence[int]) -> None:
        """Takes the ids that the reply begins with. Raises UsageError where it cannot begin so, or go on."""
        stops = (place for place, id in enumerate(given) if id in self.vocabulary.stop)
        kept = list(given[: next(stops, len(given))])
        right = self._matcher.validate_tokens(kept)
        if right < len(given):
            text = self.vocabulary.text
            raise UsageError(
                f"a reply that begins with {text(given)} cannot keep to the {self.what}: "
                f"{text(given[right : right + 1])} is not allowed after {text(given[:right])}. Change the "
                f"prefill or the {self.what}."
            )
        for id in given:
            self.take(id)
        allowed([self])
        if self.failure:
            raise UsageError(self.failure)

    def fill(self, bits: NDArray[np.int32], row: int) -> None:
        """Writes a bit for each token into `bits[row]`, which is zeros; stop ids come in `allowed`."""
        if not self._over and not self.failure:
            fill_next_token_bitmask(self._matcher, bits, row)

    def fail(self, reason: str) -> None:
        """Says why the reply cannot go on, with what llguidance says and what was taken so far."""
        said = self._matcher.get_error().removesuffix(_BRIEF).strip()
        self.failure = (
            f"the reply cannot keep to the {self.what}: after {self.vocabulary.text(self._taken)} {reason}"
            + (f" ({said})." if said else ".")
        )


def allowed(guides: Sequence[Guide | None]) -> Tensor:
    """Which ids may come next, (B, V) bool on the CPU; all of them in a row without a guide.

    A row in which none may becomes a failure of its guide. Not all guides may be None.
    """
    vocabulary = next(guide.vocabulary for guide in guides if guide is not None)
    bits = np.zeros(get_bitmask_shape(len(guides), vocabulary.tokens.vocab_size), np.int32)
    mask = np.zeros((len(guides), vocabulary.size), bool)
    for row, guide in enumerate(guides):
        if guide is not None:
            guide.fill(bits, row)
    known = vocabulary.known
    mask[:, :known] = np.unpackbits(bits.view(np.uint8), axis=1, count=known, bitorder="little")
    for row, guide in enumerate(guides):
        mask[row, vocabulary.stop] = guide is None or guide.ended
        if guide is None:
            mask[row] = True
        elif not mask[row].any():
            if not guide.failure:
                guide.fail("no token can follow")
            mask[row, vocabulary.stop] = True
    return torch.from_numpy(mask)


def restricted(logits: Tensor, guides: Sequence[Guide | None]) -> Tensor:
    """The logits (B, V) with -inf for what the guides of their rows do not allow; a row always keeps one.

    Raises ValueError where the guides' vocabulary has another size.
    """
    if all(guide is None for guide in guides):
        return logits
    mask = allowed(guides)
    if mask.shape != logits.shape:
        raise ValueError(f"guides for logits of shape {tuple(mask.shape)} met {tuple(logits.shape)}")
    return logits.masked_fill(~mask.to(logits.device), -torch.inf)


# ------------------------------------------------------------------------------------- by llguidance


def _tokens(tokenizer: PreTrainedTokenizerBase, stop: tuple[int, ...]) -> LLTokenizer:
    """The tokenizer as llguidance reads it."""
    highest = max(tokenizer.get_vocab().values())
    if highest >= len(tokenizer):  # llguidance counts tokens, and would panic
        raise ModelError(
            f"the tokenizer's ids reach {highest}, but it has {len(tokenizer)} tokens: with gaps between the "
            "ids no reply can be kept to a grammar. Sample without one."
        )
    fast: Any = tokenizer
    try:
        return from_tokenizer(fast, eos_token=list(stop))
    except ValueError as error:
        raise ModelError(
            f"replies in the tokens of {type(tokenizer).__name__} cannot be kept to a grammar: {error}. A "
            "tokenizer that is byte-level or falls back on bytes is needed."
        ) from error


def _matcher(tokens: LLTokenizer, sampling: Sampling, what: str) -> LLMatcher:
    """The schema or grammar, compiled; UsageError with llguidance's words where it cannot be kept to."""
    if sampling.schema is None:
        grammar = str(sampling.grammar)
        source = LLMatcher.grammar_from_lark(grammar)
    else:
        schema = json.dumps(_bounded(sampling.schema))
        grammar, source = f"start: %json {schema}", LLMatcher.grammar_from_json_schema(schema)
    # A warning says what of a schema would be ignored: the reply would not keep to it.
    _, problems = LLMatcher.validate_grammar_with_warnings(source, tokens, limits=_LIMITS)
    if problems:
        raise UsageError(f"replies cannot be kept to the {what}: {'; '.join(problems).strip()}")
    whole = LLMatcher.grammar_from_lark(f"{grammar}\n{UNFORCED}")
    matcher = LLMatcher(tokens, whole, log_level=0, limits=_LIMITS)
    if matcher.is_error():
        raise UsageError(
            f"replies cannot be kept to the {what}: {matcher.get_error().removesuffix(_BRIEF).strip()}"
        )
    return matcher


def _bounded(schema: Mapping[str, Json]) -> Mapping[str, Json]:
    """The schema with at most BLANKS between two parts of the JSON, where it says nothing of that itself."""
    return {"x-guidance": {"whitespace_pattern": BLANKS}, **schema}
