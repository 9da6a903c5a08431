"""The tokens that a `train` step streams: in memory where they are few, on the shelf where they are many."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnsmith.data import store
from turnsmith.data.prepare import Terms, hold_to, prepare
from turnsmith.data.processes import usable_cores
from turnsmith.shelf import digest
from turnsmith.types import Rendered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from turnsmith.data.render import Renderer
    from turnsmith.recipes.run import Runner

MANY = 2 * store.CHUNK  # examples from which on processes are worth their start, and tokens a place on disk


def tokens(
    data: str, runner: Runner, renderer: Renderer, terms: Terms, *, max_dropped: float
) -> tuple[Sequence[Rendered], Mapping[str, int]]:
    """The examples of a data name as tokens, and what was cut or dropped, by reason.

    Many are rendered by all cores and stored under a hash of the data, the tokenizer, its template and the
    terms: who asks again, for another run or after a kill, finds what is there.
    """
    examples = runner.examples(data)
    if len(examples) < MANY:
        return prepare(
            examples,
            renderer,
            terms.parts,
            length=terms.length,
            over=terms.over,
            max_dropped=max_dropped,
            train=terms.train,
        )
    template, tokenizer = renderer.fingerprint, words(renderer.tokenizer)
    key = digest("tokens 1", runner.hashes(data), template, tokenizer, asdict(terms))

    def make(directory: Path) -> dict[str, Any]:
        cores = max(1, int(usable_cores()))
        runner.say(f"tokens  {data}: {len(examples):,} examples on {cores} core{'s' * (cores > 1)}")
        written = store.write(directory, examples, renderer, terms, processes=cores)
        return {"kind": "tokens", "data": data, "kept": written.kept, "counts": written.counts}

    runner.shelf.obtain(key, make)
    record = runner.shelf.record(key)
    found = store.Store(runner.shelf.path(key), record["kept"])
    hold_to(max_dropped, kept=len(found), examples=len(examples), length=terms.length)
    return found, Counter(record["counts"])


def words(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of all that a tokenizer does to text, of which a template's fingerprint shows a sample only."""
    rust: Any = getattr(tokenizer, "backend_tokenizer", None)
    text = json.dumps(sorted(tokenizer.get_vocab().items())) if rust is None else rust.to_str()
    return hashlib.sha256(text.encode()).hexdigest()
