"""What is in a data file: one pass over its rows, and what is slow on a sample whose size is said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnsmith.data.quarantine import FILE, BadRows, Quarantine
from turnsmith.errors import RenderError, UsageError
from turnsmith.recipes import components
from turnsmith.types import Call, Conversation, Example, Message, Role

MODEL = "smollm2-135m-instruct"  # whose tokens are counted where no model is named and it is in the cache
LIMITS = (1024, 2048, 4096, 8192)
SHOWN = 5  # ids and groups that are named
OPENING = 100  # characters of a text that stand for it


def describe(
    data: str | Path,
    *,
    format: str = "auto",
    model: str | Path | None = None,
    sample: int = 1000,
    near: int = 50_000,
    bad_rows: BadRows = "stop",
    bad_rows_to: str | Path | None = None,
    use: Sequence[Path | str] = (),
) -> dict[str, Any]:
    """Format, counts, roles, lengths, duplicates, languages, suspicious rows, and the first example.

    data: a file, or shipped data such as chitchat. format: guessed where it is `auto`. model: whose tokenizer
    and template count tokens. sample: conversations that tokens and languages are measured on, drawn from
    all. near: examples, from the first on, that are compared for near duplicates. bad_rows: whether the first
    bad row is an error, or all go to `bad_rows_to` (default: NAME.bad-rows.jsonl here). use: files with
    formats of your own.
    """
    from turnsmith.data import formats, read

    if min(sample, near) < 0:
        raise UsageError(f"sample and near must be at least 0, not {sample} and {near}")
    known = components(use)
    path = read.locate(str(data))
    bad = quarantine(path, bad_rows, bad_rows_to)
    skipped: Counter[str] = Counter()
    guessed, examples = formats.stream(path, format, known, skipped, bad)
    looked = _Look(sample, near)
    for example in examples:
        looked.take(example)
    taken = bad.counts if bad else Counter[str]()
    return {
        "file": str(path),
        "format": guessed.name,
        "guessed": format == "auto",
        "why": guessed.why,
        "rows": looked.examples + skipped.total() + taken.total(),
        "skipped": dict(skipped),
        "bad_rows": dict(taken),
        "bad_rows_in": str(bad.path) if bad and taken else None,
        **looked.found(str(model) if model else None),
    }


def quarantine(path: Path, bad_rows: BadRows, to: str | Path | None) -> Quarantine | None:
    """Where the bad rows of a file go. Raises UsageError where `to` is said and they stop."""
    if bad_rows == "stop":
        if to is not None:
            raise UsageError(
                "bad rows are written to a file only where they do not stop: --bad-rows quarantine"
            )
        return None
    return Quarantine(Path(to) if to else Path(f"{path.resolve().name.split('.')[0]}.{FILE}"))


@dataclass(frozen=True, slots=True)
class _Said:
    """A conversation that may be drawn into the sample, and all its words."""

    id: str
    conversation: Conversation
    text: str


class _Look:
    """What is remembered of the examples: counters, some eight bytes a row and number, and the samples."""

    def __init__(self, sample: int, near: int) -> None:
        from turnsmith.data.duplicates import Keys, Sketches
        from turnsmith.data.spread import Names, Sample, Spread

        self.examples = 0
        self.parts: Counter[str] = Counter()
        self.roles: Counter[str] = Counter()
        self.messages, self.characters = Spread(), Spread()
        self.ids, self.openings = Names(), Names()
        self.texts, self.prompts, self.answers = Keys(), Keys(), Keys()
        self.answered: list[int] = []
        self.sketches = Sketches(near)
        self.sample: Sample[_Said] = Sample(sample)
        self.reasons, self.kinds = _Flags(), _Flags()
        self.first: Example | None = None

    def take(self, example: Example) -> None:
        from turnsmith.data.suspicions import personal, suspicions

        row, texts = self.examples, list[str]()
        self.first = self.first or example
        self.examples += 1
        self.ids.add(example.id)
        reasons: set[str] = set()
        for name, conversation in conversations(example):
            self.parts[name] += 1
            self.roles.update(message.role for message in conversation.messages)
            texts.append(words(conversation))
            self.messages.add(len(conversation.messages))
            self.sample.add(_Said(example.id, conversation, texts[-1]))
            reasons.update(suspicions(conversation, texts[-1]))
        whole = "\n\n".join(texts)
        self.characters.add(len(whole))
        self.reasons.add(example.id, sorted(reasons))
        self.kinds.add(example.id, personal(whole))
        self._compare(row, whole, example)

    def _compare(self, row: int, whole: str, example: Example) -> None:
        key = self.texts.add(tuple(exact(one) for _, one in conversations(example)))
        self.sketches.add(row, key, whole)
        if row < self.sketches.most:
            self.openings.add(" ".join(whole[: 2 * OPENING].split())[:OPENING])
        text = example.parts.get("text")
        if isinstance(text, Conversation) and text.opening.messages:
            self.answered.append(row)
            self.prompts.add(exact(text.opening))
            self.answers.add(exact(text))

    def found(self, model: str | None) -> dict[str, Any]:
        """All that can be said once every example was seen."""
        if self.first is None:
            return {"examples": 0}
        return {
            "examples": self.examples,
            "parts": dict(self.parts),
            "roles": dict(self.roles),
            "messages": self.messages.summary(),
            "characters": self.characters.summary(),
            "tokens": tokens(self.sample.taken(), self.sample.seen, model),
            "languages": self._languages(),
            **self._duplicates(),
            "suspicious": self._suspicious(),
            "personal": self.kinds.found,
            "first": {
                part: [{"role": m.role, "content": _shown(m)} for m in one.messages]
                for part, one in self.first.parts.items()
                if isinstance(one, Conversation)
            },
        }

    def _duplicates(self) -> dict[str, Any]:
        from turnsmith.data.duplicates import different, equal

        exact, near = equal(self.texts.array(), shown=SHOWN), self.sketches.groups(shown=SHOWN)
        asked = different(self.prompts.array(), self.answers.array(), shown=SHOWN)
        rows = self.answered
        prompts = [tuple(rows[one] for one in group) for group in asked.first]
        return {
            "duplicates": exact.surplus,
            "duplicate_groups": self._groups(exact.first),
            "near_duplicates": {
                "compared": len(self.sketches.rows),
                "examples": near.surplus,
                "groups": near.count,
                "left_out": near.left_out,
                "first": self._groups(near.first),
            },
            "answered_differently": {"prompts": asked.count, "first": self._groups(prompts)},
        }

    def _groups(self, groups: Iterable[Sequence[int]]) -> list[dict[str, Any]]:
        """text: how those of the group begin that are among the first rows, whose beginnings are kept."""
        found: list[dict[str, Any]] = []
        for group in groups:
            openings = [self.openings[row] for row in group if row < len(self.openings)]
            text = _beginning(openings)
            found.append({"count": len(group), "ids": [self.ids[row] for row in group[:SHOWN]], "text": text})
        return found

    def _languages(self) -> dict[str, Any]:
        from turnsmith.data.languages import languages

        taken = self.sample.taken()
        counted = languages(said.text for said in taken)
        return {"measured": len(taken), "of": self.sample.seen, "counts": dict(counted.most_common())}

    def _suspicious(self) -> dict[str, Any]:
        below, above = self.characters.far()
        for reason, rows in (("far shorter than the others", below), ("far longer than the others", above)):
            for row in rows:
                self.reasons.add(self.ids[row], [reason])
        return self.reasons.found


def _beginning(texts: Sequence[str]) -> str:
    """What all texts begin with; where that is nothing, the first of them."""
    if not texts:
        return ""
    same = 0
    for one, other in zip(min(texts), max(texts), strict=False):
        if one != other:
            break
        same += 1
    return texts[0][:same] or texts[0]


class _Flags:
    """What was found in which examples: counts, and the first ids."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, id: str, reasons: Iterable[str]) -> None:
        for reason in reasons:
            flag = self.found.setdefault(reason, {"count": 0, "first": []})
            flag["count"] += 1
            if len(flag["first"]) < SHOWN:
                flag["first"].append(id)


def tokens(sample: Sequence[_Said], seen: int, model: str | None) -> dict[str, Any]:
    """Lengths in tokens, the template's included, of the conversations in the sample."""
    from turnsmith.data.spread import Spread
    from turnsmith.models.locate import is_here

    if not sample or (model is None and not is_here(MODEL)):
        return {"measured": 0, "of": seen, "model": None}
    from turnsmith.data.render import Renderer
    from turnsmith.models import load

    renderer = Renderer(load.tokenizer(model or MODEL))
    lengths, refused = Spread(), _Flags()
    for said in sample:
        try:
            lengths.add(max(len(ones) for ones in renderer.render(said.conversation, name=said.id)))
        except RenderError as error:
            refused.add(said.id, [str(error).replace(repr(said.id), "...")])
    found = {"measured": len(lengths), "of": seen, "model": model or MODEL, "refused": refused.found}
    return found | ({**lengths.summary(), "over": lengths.over(LIMITS)} if len(lengths) else {})


def words(conversation: Conversation) -> str:
    """All that is said in a conversation: contents, thoughts and calls."""
    return "\n\n".join(
        f"{message.thinking}\n{_shown(message)}" if message.thinking else _shown(message)
        for message in conversation.messages
    )


def exact(conversation: Conversation) -> tuple[tuple[Role, str, str | None, tuple[str, ...]], ...]:
    """Who says what: what must agree in conversations that are the same."""
    return tuple((m.role, m.content, m.thinking, tuple(map(_called, m.calls))) for m in conversation.messages)


def _shown(message: Message) -> str:
    """What is said, and the tools that are called."""
    if not message.calls:
        return message.content
    return "\n".join([*([message.content] if message.content else ()), *map(_called, message.calls)])


def _called(call: Call) -> str:
    return f"{call.name}({json.dumps(call.arguments, ensure_ascii=False)})"


def conversations(example: Example) -> Iterator[tuple[str, Conversation]]:
    """The conversations of all parts, each with the name of its part."""
    for name, part in example.parts.items():
        for one in part if isinstance(part, tuple) else (part,):
            yield name, one
