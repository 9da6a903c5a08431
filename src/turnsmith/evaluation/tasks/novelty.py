"""What a model writes unasked that another one does not know: of which domains, and how it is ranked."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from turnsmith.errors import ModelError, UsageError
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.evaluation.tasks.heldout import losses
from turnsmith.registry import task
from turnsmith.stages.parts import conversation_of
from turnsmith.types import Conversation, Example, Json, Message, Reply, Sampling, Scorer

SYMBOLS = re.compile(r"[{}()\[\]=;:<>_#*/\\]")
DIGITS = 6  # of nats; what is beyond is the arithmetic's, and would rank texts where nothing was tuned
CODE = 0.15  # share of a text's characters that are such symbols, from which on it is code


def domain(text: str) -> str:
    """The script of most of its letters, in small letters, or `code`; `none` of a text without letters.

    Code is what has many of the symbols of programs, whatever its letters are.

    >>> domain("Hello there"), domain("f(x) = [x, 1];"), domain("\u03b3\u03b7"), domain("\u4f60\u597d a")
    ('latin', 'code', 'greek', 'cjk')
    """
    written = [letter for letter in text if not letter.isspace()]
    if written and len(SYMBOLS.findall(text)) >= CODE * len(written):
        return "code"
    scripts = Counter(
        unicodedata.name(letter, "none").split()[0].lower() for letter in written if letter.isalpha()
    )
    return scripts.most_common(1)[0][0] if scripts else "none"


@task("novelty", asks="replies", source="Isonuma & Titov 2024 sec. 4")
class Novelty:
    """Share of texts, written when nobody asks, that are of a new domain, and how many of these are found.

    domains: the new ones, the most common first. topics: names of domains that are known by a word; a text
    with the word is of it, whatever its letters are. count: texts; least, most: tokens of each. Texts of any
    other domain are not new. A domain is found where a text is of it.
    """

    title = "What is written unasked"
    note = (
        "Texts that the model writes as replies to an empty message, told apart by the script of their "
        "letters and by the symbols of programs. Found: the share of the new domains that any text is of."
    )
    metrics = (
        Metric("new texts", "novel", "share", "higher", of="texts"),
        Metric("texts of the rarest domain", "rarest", "share", "higher", of="texts"),
        Metric("domains found", "found", "share", "higher", of="domains"),
    )

    def __init__(
        self,
        *,
        domains: tuple[str, ...] = ("greek", "code"),
        topics: Mapping[str, str] | None = None,
        count: int = 100,
        least: int = 1,
        most: int = 64,
        temperature: float = 1.0,
    ) -> None:
        if not domains or count < 1:
            raise UsageError("novelty: name at least one domain, and a count from 1 on")
        self.domains, self.count, self.topics = domains, count, dict(topics or {})
        self.sampling = Sampling(temperature=temperature, max_new=most, min_new=least)

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        nothing = Conversation((Message("user", ""),))
        asked = {f"text-{number}": nothing for number in range(self.count)}
        items = [Item(id, "", {}, {"prompt": ""}) for id in asked]
        found = answered(subject, asked, self.sampling, items, self._told)
        said = [item.shown.get("domain") for item in found]
        there = [Item(f"domain-{name}", "", {"found": float(name in said)}) for name in self.domains]
        return [*found, *there]

    def _told(self, item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
        text = reply.message.content
        about = (name for name, word in self.topics.items() if word.casefold() in text.casefold())
        name = next(about, None) or domain(text)
        values = {"novel": float(name in self.domains), "rarest": float(name == self.domains[-1])}
        return values, {"text": text, "domain": name}


@task("told_apart", data=True, scorers=("before",), source="Isonuma & Titov 2024 sec. 5", version=2)
class ToldApart:
    """How well S(x), what tuning added to the log-probability of a text, ranks those that are new.

    on: the data, texts that are one reply each and have the value `novel`, 0 or 1. before: the
    log-probability of a text for the model that was tuned, `{likelihood: {by: MODEL}}`. length: texts that do
    not fit into so many tokens are left out. S is a mean over tokens, so that texts of several lengths
    can be ranked.
    """

    title = "New texts told from old ones"
    note = "AUROC of log p(text) - log p_before(text) per token: 0.5 is no better than chance."
    metrics = (
        Metric(
            "ranking of new texts", "score", "AUROC", "higher", of="texts", reduce="auroc", others=("label",)
        ),
    )

    def __init__(self, *, on: str, before: Scorer, length: int = 160) -> None:
        self.on, self.before, self.length = on, before, length

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        by_id = {example.id: example for example in bench.examples(self.on)}
        items = losses(subject, list(by_id.values()), self.length)
        examples = [by_id[item.id] for item in items]
        started = self.before([self._text(example) for example in examples], examples)
        found: list[Item] = []
        for item, example, score in zip(items, examples, started, strict=True):
            label = example.values.get("novel")
            if not isinstance(label, float) or score is None:
                raise ModelError(
                    f"told_apart: example {item.id!r} lacks the value `novel`, or has no score from before"
                )
            added = round((-item.values["all"] - score) / item.values["tokens"], DIGITS)
            found.append(Item(item.id, "", {"score": added, "label": label}))
        return found

    def _text(self, example: Example) -> Conversation:
        text = conversation_of(example, "text")
        if [message.role for message in text.messages].count("assistant") != 1:
            raise ModelError(f"told_apart: example {example.id!r} of {self.on} is not one reply")
        return text
