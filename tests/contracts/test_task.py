"""The contract of tasks, over everything registered, on tiny models."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import TASK, TinyBench, conversations, stage, task
from turnsmith.types import Message, Reply, Usage

REGISTRY = Registry()
QUESTION = {"question": "What is wet?", "options": ["sand", "water"], "answer": 1}
PROMPT = {"prompt": "Say no.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
FILES = {  # what tasks that measure on a file of their own are given
    "choice": [QUESTION, {**QUESTION, "answer": 0}],
    "ifeval": [PROMPT, PROMPT],
    "maths": [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "2 + 3?", "answer": "#### 5"}],
}
OPTIONS = {
    "abilities": {"every": 80},
    "boxes": {"on": "scenes", "max_new": 8},
    "named": {"on": "scenes", "labels": ("a", "b"), "max_new": 8},
    "classified": {"on": "classes"},
    "doubted": {"on": "noisy"},
    "code": {"file": str(Path(__file__).with_name("problems.jsonl")), "max_new": 8},
    "exact": {"on": "chats"},
    "heldout": {"on": "chats"},
    "novelty": {"count": 4, "most": 8},
    "idling": {"on": "slices", "max_new": 4},
    "ifeval": {"max_new": 8},
    "interrupted": {"on": "chats", "max_new": 4},
    "margins": {"on": "pairs"},
    "moderated": {"on": "unsafe", "policy": {"Numbers": "", "Bets": ""}},
    "moderated_each": {"on": "unsafe", "policy": {"Numbers": ""}},
    "maths": {"max_new": 8},
    "routing": {"on": "typed"},
    "retrieved": {"on": "again", "table": "chats", "further": (4,)},
    "replies": {"on": "chats", "count": 2, "max_new": 8},
    "exchanged": {"on": "chats"},
    "speed": {"count": 2, "reading": 20, "writing": 4, "repeats": 1},
    "rouge": {"on": "chats", "max_new": 8},
    "stopping": {"count": 4},
    "weighed": {"on": "classes", "labelled": "classes"},
}


def nods(asked, *, sampling=None, seed=0):
    return [Reply(Message("assistant", "Go on."), "stop", Usage(1, 1)) for _ in asked]


def lengths(asked, examples):
    return [float(len(one.messages[-1].content)) for one in asked]


def evens(asked, examples):
    return [float(at % 2) for at in range(len(asked))]


def rates(asked, *, sampling=None, seed=0):
    ratings = [len(one.messages[-2].content) % 4 + 1 for one in asked]
    return [Reply.scripted(f"Rating: {one}\nCritique: So so.\nAdvice: More.") for one in ratings]


# Tasks that take chats and scorers, which a recipe's options only name.
SPOKEN = {
    "played": {"on": "chats", "user": nods, "reward": lengths, "turns": 2, "max_new": 8},
    "agreement": {"on": "rated", "by": lengths},
    "paths": {"on": "chats", "other": nods, "by": lengths, "max_new": 8},
    "bandit": {"on": "chats", "reward": lengths},
    "told_apart": {"on": "told", "before": lengths},
    "pairwise": {"on": "sets", "by": lengths, "baseline": lengths},
    "ranked": {"on": "sets", "by": lengths, "baseline": lengths},
    "claims": {"on": "chats", "by": lengths, "max_new": 8},
    "trusted": {"on": "chats", "by": lengths, "truth": evens},
    "rewarded": {"on": "chats", "reward": lengths, "max_new": 8},
    "steered": {"on": "chats", "critic": rates, "max_new": 4},
}
NETWORKS = ("critiquing",)  # measured on networks that are no language models
PROBES = ("circuit", "carried", "crossed")  # measured on a model that knows words of the data


def make(name, folder=None):
    options = dict(OPTIONS.get(name, {}))
    if name in SPOKEN:
        return partial(REGISTRY.function("task", name), **SPOKEN[name])
    if name in FILES:
        options["file"] = str(folder / f"{name}.jsonl")
    return task(name, options, registry=REGISTRY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("files")
    for name, rows in FILES.items():
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return made


@pytest.fixture(scope="module")
def bench():
    data = {"chats": conversations(3), "pairs": conversations(3, parts=("chosen", "rejected"))}
    data["typed"] = [
        replace(one, values={"knowledge": float(number % 2)}) for number, one in enumerate(data["chats"])
    ]
    data["again"] = [
        replace(one, meta={"id": f"again-{at}", "row": one.id}) for at, one in enumerate(data["chats"])
    ]
    short = [one.replaced(text=one.parts["text"].upto(2)) for one in data["chats"]]
    data["told"] = [replace(one, values={"novel": float(at % 2)}) for at, one in enumerate(short)]
    known = {"boxes": [[0.0, 0.0, 0.5, 0.5]], "gold": ["a"]}
    data["scenes"] = [replace(one, meta={**one.meta, **known}) for one in data["chats"]]
    data["noisy"] = [replace(one, values={"wrong": float(at % 2)}) for at, one in enumerate(data["chats"])]
    data["unsafe"] = [
        replace(one, meta={**one.meta, "violated": ["Numbers"][: at % 2]})
        for at, one in enumerate(data["chats"])
    ]
    trees = list(stage("sum_trees", {"count": 2}, registry=REGISTRY)([]))
    data["sets"] = list(stage("tree_sets", registry=REGISTRY)(trees))
    data["rated"] = [replace(one, values={"score": 1.0 + at}) for at, one in enumerate(data["chats"])]
    cut = {"kinds": {"resumed": 1.0}, "words": 1}
    data["slices"] = list(stage("duplex", cut, registry=REGISTRY)(data["chats"]))
    texts = stage("opinions", {"count": 4}, registry=REGISTRY)([])
    words = {"words": {"0": "no", "1": "yes"}}
    data["classes"] = list(stage("labelled", words, registry=REGISTRY)(list(texts)))
    return TinyBench(data, {"stopping": make("stopping"), "heldout": make("heldout")})


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("task"), ids=lambda entry: entry.name)
def test_contract(bench, folder, entry, check):
    if entry.name in NETWORKS:
        pytest.skip(f"{entry.name} is of a network: its own test holds it to the contract with one")
    if entry.name in PROBES:
        pytest.skip(f"{entry.name} looks into a model: its own test holds it to the contract with one")
    check(make(entry.name, folder), bench)
