"""The contract of tasks, over everything registered, on tiny models."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from turnsmith.registry import Registry
from turnsmith.testing import TASK, TinyBench, conversations, task

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
    "code": {"file": str(Path(__file__).with_name("problems.jsonl")), "max_new": 8},
    "exact": {"on": "chats"},
    "heldout": {"on": "chats"},
    "ifeval": {"max_new": 8},
    "margins": {"on": "pairs"},
    "maths": {"max_new": 8},
    "routing": {"on": "typed"},
    "replies": {"on": "chats", "count": 2, "max_new": 8},
    "exchanged": {"on": "chats"},
    "speed": {"count": 2, "reading": 20, "writing": 4, "repeats": 1},
    "stopping": {"count": 4},
}
NETWORKS = ("critiquing",)  # measured on networks that are no language models


def make(name, folder=None):
    options = dict(OPTIONS.get(name, {}))
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
    return TinyBench(data, {"stopping": make("stopping")})


@pytest.mark.parametrize("check", TASK, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("task"), ids=lambda entry: entry.name)
def test_contract(bench, folder, entry, check):
    if entry.name in NETWORKS:
        pytest.skip(f"{entry.name} is of a network: its own test holds it to the contract with one")
    check(make(entry.name, folder), bench)
