"""Text of a chat template to token ids: the template's own special tokens are tokens, all other text is
text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from turnsmith.data.template import BREAK
from turnsmith.types import IMAGE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CACHED = 24  # characters: what a template puts between special tokens is short, and the same again and again
ANCHOR = "\n"


class Segment(NamedTuple):
    """Characters `start:end` of a text, which no token leaves, and their token ids."""

    start: int
    end: int
    ids: tuple[int, ...]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The texts that stand for control tokens wherever this tokenizer meets them, with their ids."""
    added = tokenizer.added_tokens_decoder
    found = {token.content: id for id, token in added.items() if token.special}
    named = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    return {text: id for text, id in {**found, **dict(named)}.items() if text}


class Encoder:
    """Encodes texts in segments: special tokens, and what lies between them.

    A segment ends behind each `header`, too: what a model answers is never part of a token that began before.
    anchored: whether a text has to be told that it is not the first, as SentencePiece wants it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pattern: re.Pattern[str], header: str) -> None:
        self.tokenizer = tokenizer
        self.special = special_tokens(tokenizer)
        self.pattern = pattern
        self.header = header
        self.anchored = False
        added = {token.content: token for token in tokenizer.added_tokens_decoder.values()}
        self._eats_left = {text for text in self.special if text in added and added[text].lstrip}
        self._eats_right = {text for text in self.special if text in added and added[text].rstrip}
        self._known: dict[str, tuple[int, ...]] = {}

    def anchor(self, anchored: bool) -> None:
        """Say whether texts are encoded behind another one."""
        self.anchored = anchored
        self._known.clear()

    def ids(self, text: str) -> list[int]:
        """All ids of a text."""
        return [id for segment in self.segments(text) for id in segment.ids]

    def segments(
        self, text: str, cuts: Sequence[int] = (), images: Sequence[Sequence[int]] = ()
    ) -> list[Segment]:
        """The text in segments, in order; what a special token swallows around it is in none.

        cuts: further positions that no token may cross. images: the ids of each image, in the order of their
        marks in the text.
        """
        marks = [place for place, letter in enumerate(text) if letter == IMAGE] if images else []
        seen = dict(zip(marks, images, strict=True))
        bounds = self._bounds(text, [*cuts, *marks, *(place + 1 for place in marks)])
        plain = [text[start:end] for start, end, id in bounds if id is None and start not in seen]
        encoded = iter(self.plain(plain))
        found: list[Segment] = []
        for start, end, id in bounds:
            own = (id,) if id is not None else tuple(seen[start]) if start in seen else next(encoded)
            found.append(Segment(start, end, own))
        return found

    def plain(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The ids of texts in which nothing is a special token."""
        clean = [text.replace(BREAK, "") for text in texts]
        new = [text for text in dict.fromkeys(clean) if text not in self._known]
        made = dict(zip(new, self._encode(new), strict=True)) if new else {}
        self._known |= {
            text: ids for text, ids in made.items() if len(text) <= CACHED and len(self._known) < 10_000
        }
        return [made[text] if text in made else self._known[text] for text in clean]

    def spans(self, segment: Segment, text: str) -> list[tuple[int, int]]:
        """The characters of `text` that each token of a segment stands for."""
        if len(segment.ids) == 1:
            return [(segment.start, segment.end)]
        inside = text[segment.start : segment.end]
        kept = [place for place, letter in enumerate(inside) if letter != BREAK]
        clean = inside.replace(BREAK, "")
        before = ANCHOR if self.anchored else ""
        found = self.tokenizer(
            before + clean, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        offsets = found["offset_mapping"][-len(segment.ids) :]
        inner = [(max(first - len(before), 0), last - len(before)) for first, last in offsets]
        return [
            (segment.start + kept[first], segment.start + kept[max(last - 1, first)] + 1)
            for first, last in inner
        ]

    def _encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        before = ANCHOR if self.anchored else ""
        found = self._batch([before + text for text in texts])
        if not before:
            return found
        [alone] = self._batch([before])
        return [ids[len(alone) :] for ids in found]

    def _batch(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            encoded = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
            return [tuple(ids) for ids in encoded["input_ids"]]
        before = backend.encode_special_tokens
        backend.encode_special_tokens = True
        backend.no_padding()
        backend.no_truncation()
        try:
            return [tuple(one.ids) for one in backend.encode_batch_fast(texts, add_special_tokens=False)]
        finally:
            backend.encode_special_tokens = before

    def _bounds(self, text: str, cuts: Sequence[int]) -> list[tuple[int, int, int | None]]:
        """(start, end, id of the special token or None) of each segment."""
        where = iter(sorted({*cuts, *_ends(text, self.header)}))
        cut = next(where, len(text))
        bounds: list[tuple[int, int, int | None]] = []
        at = 0
        left = ""
        for found in [*self.pattern.finditer(text), None]:
            start, end = found.span() if found else (len(text), 0)
            first, last = at, start
            if left in self._eats_right:
                first += len(text[at:start]) - len(text[at:start].lstrip())
            if found is not None and found[0] in self._eats_left:
                last = first + len(text[first:start].rstrip())
            while cut < last:
                if cut > first:
                    bounds.append((first, cut, None))
                    first = cut
                cut = next(where, len(text))
            if last > first:
                bounds.append((first, last, None))
            if found is not None:
                left = found[0]
                bounds.append((start, end, self.special[left]))
                at = end
        return bounds


def _ends(text: str, part: str) -> list[int]:
    """Where `part` ends in the text, wherever it occurs."""
    found: list[int] = []
    at = text.find(part) if part else -1
    while at >= 0:
        found.append(at + len(part))
        at = text.find(part, at + 1)
    return found
