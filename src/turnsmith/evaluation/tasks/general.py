"""What a model may have forgotten: on general prompts and items that come with Turnsmith, nothing to
download."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import torch

from turnsmith.data.batch import micro_batches
from turnsmith.data.prepare import prepare
from turnsmith.evaluation.items import Item, Metric
from turnsmith.evaluation.likelihoods import in_chat, likelihoods
from turnsmith.evaluation.suite import Bench, Subject, answered
from turnsmith.registry import task
from turnsmith.types import Conversation, Example, Json, Message, Reply, Sampling

REPLY = 128  # tokens within which a reply to a general prompt should end
ANSWER = 16  # tokens of a generated answer to an item


@task("stopping", asks="replies")
class Stopping:
    """Share of replies to general prompts that end by the stop token within 128 tokens."""

    title = "Ending by itself"
    note = (
        f"Share of sampled replies to 100 general prompts that end by the stop token within {REPLY} tokens."
    )
    metrics = (Metric("replies that end", "ended", "share", "higher", of="replies"),)

    def __init__(self, *, count: int = 100) -> None:
        self.count = count

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        rows = _rows("prompts.jsonl")[: self.count]
        asked = {row["id"]: _asking(row["prompt"]) for row in rows}
        items = [Item(row["id"], row["kind"], {}, {"prompt": row["prompt"]}) for row in rows]
        return answered(subject, asked, Sampling(temperature=1.0, max_new=REPLY), items, _ending)


def _ending(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
    shown: dict[str, Json] = {"text": reply.message.content, "ids": list(reply.message.ids or ())}
    return {"ended": float(reply.finish == "stop")}, shown


@task("divergence", needs=("stopping",))
class Divergence:
    """KL divergence from the start model on its own replies to general prompts, exact at each position."""

    title = "Drift from the start model"
    note = (
        "KL(start || tuned) in nats per token, summed over the whole vocabulary at each position of "
        "replies that the start model sampled to 100 general prompts. 0 means unchanged; it grows with "
        "anything that changed."
    )
    metrics = (Metric("KL from the start model", "kl", "nats per token", "lower", "tokens", "replies"),)

    @torch.no_grad()
    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        start = bench.start()
        every = bench.of_start("stopping")
        replies = [item for item in every if item.failed is None]
        silent = [Item(item.id, "", {}, failed=item.failed) for item in every if item.failed is not None]
        if subject is start:  # 0 by definition
            sizes = {item.id: float(len(_sampled(item).ids or ())) for item in replies}
            return [*(Item(id, "", {"kl": 0.0, "tokens": size}) for id, size in sizes.items()), *silent]
        examples = [
            Example({"text": _asking(item.shown["prompt"]).then(_sampled(item))}, {}, {"id": item.id})
            for item in replies
        ]
        rendered, _ = prepare(examples, start.renderer, ("text",), length=10**9)
        items = []
        for run in micro_batches(rendered, subject.row):
            batch = subject.batch(run)
            found = subject.scoring(batch, needs=("kl:start",), others={"start": start.scoring})
            apart = found.reduced["kl:start"]
            for number, id in enumerate(batch.ids):
                own = apart[batch.path == number]
                items.append(Item(id, "", {"kl": float(own.sum()), "tokens": float(len(own))}))
        return [*items, *silent]


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    kind: str
    prompt: str
    options: tuple[str, ...]
    answer: int


@task("abilities")
class Abilities:
    """Share of right answers to short items of many kinds, by option likelihood and by a generated answer.

    By likelihood, the answer is the option with the highest log-probability, its stop token included. By
    generation, it is the option that is named first, as whole words, in a greedy reply of at most 16 tokens.
    """

    title = "What it could do before"
    note = (
        "Short items with a known answer. By likelihood: the option that the model finds most probable, "
        "end of turn included. By generation: the option that its greedy reply names first. Kinds that "
        "the start model answers no better than by guessing say nothing about forgetting and are marked."
    )
    metrics = (
        Metric("right by likelihood", "likely", "share", "higher", chance=True, grouped=True),
        Metric("right by generation", "said", "share", "higher", grouped=True),
    )

    def __init__(self, *, every: int = 1) -> None:
        self.every = every

    def measure(self, subject: Subject, bench: Bench) -> list[Item]:
        questions = [
            _Question(r["id"], r["kind"], r["prompt"], tuple(r["options"]), r["answer"])
            for r in _rows("items.jsonl")[:: self.every]
        ]
        options = {
            question.id: [in_chat(question.prompt, option) for option in question.options]
            for question in questions
        }
        likely = likelihoods(subject, options)
        asked = {question.id: _asking(question.prompt) for question in questions}
        items = []
        for question in questions:
            scores = likely[question.id]
            values = {
                "likely": float(max(range(len(scores)), key=scores.__getitem__) == question.answer),
                "chance": 1 / len(question.options),
            }
            shown = {"prompt": question.prompt, "answer": question.options[question.answer]}
            items.append(Item(question.id, question.kind, values, shown))
        by_id = {question.id: question for question in questions}

        def said(item: Item, reply: Reply) -> tuple[dict[str, float], dict[str, Json]]:
            question, text = by_id[item.id], reply.message.content
            return {"said": float(named_first(text, question.options) == question.answer)}, {"text": text}

        return answered(subject, asked, Sampling(temperature=0.0, max_new=ANSWER), items, said)


def named_first(reply: str, options: Sequence[str]) -> int | None:
    """Index of the option whose words occur first in the reply; of two at the same place the longer one.

    Case, punctuation and spacing do not matter. None where no option occurs.

    >>> named_first("It is Paris, not Rome.", ["Rome", "Paris"])
    1
    """
    said = _words(reply)
    found = []
    for index, option in enumerate(options):
        words = _words(option)
        for place in range(len(said) - len(words) + 1):
            if words and said[place : place + len(words)] == words:
                found.append((place, -len(words), index))
                break
    return min(found)[2] if found else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _asking(prompt: Any) -> Conversation:
    return Conversation((Message("user", str(prompt)),))


def _sampled(item: Item) -> Message:
    ids = item.shown["ids"]
    assert isinstance(ids, list)
    return Message("assistant", str(item.shown["text"]), ids=tuple(int(str(id)) for id in ids))


def _rows(name: str) -> list[dict[str, Any]]:
    text = files("turnsmith.evaluation").joinpath("general", name).read_text("utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]
