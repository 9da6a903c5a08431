"""The contract of formats, over everything registered."""

import json

import pytest

from turnsmith.data import formats
from turnsmith.registry import Registry
from turnsmith.testing import FORMAT, variety

REGISTRY = Registry()
SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0.5}]
# Rows of each format, with a key that it does not know.
ROWS = {
    "messages": [{"messages": SAID, "page": 3}],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "page": 3}
    ],
    "alpaca": [
        {"instruction": "Add", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]], "page": 3}
    ],
    "completion": [{"prompt": "Hi", "completion": "Hello", "page": 3}],
    "pairs": [{"prompt": "Hi", "chosen": "Hello", "rejected": "Go away", "page": 3}],
    "text": [{"text": "The cat sat on the mat.", "page": 3}],
    "turnsmith": [json.loads(json.dumps(formats.to_row(example))) for example in variety()],
    "chitchat": [
        {
            "start": 0,
            "page": 3,
            "messages": [
                [
                    {"sender": "ann", "text": "Hi", "timestamp": 1},
                    {"sender": "ann", "text": "you", "timestamp": 2},
                ],
                [{"sender": "bob", "text": "Hello", "timestamp": 3}],
            ],
        }
    ],
}


@pytest.mark.parametrize("check", FORMAT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("format"), ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(entry.name, ROWS[entry.name], REGISTRY)
