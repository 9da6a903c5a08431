"""The contract of formats, over everything registered."""

import json

import pytest

from turnsmith.data import formats
from turnsmith.registry import Registry
from turnsmith.testing import FORMAT, picture, variety

REGISTRY = Registry()
SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "weight": 0.5}]
# Rows of each format, with a key that it does not know.
ROWS = {
    "messages": [{"messages": SAID, "page": 3}],
    "sharegpt": [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "page": 3}
    ],
    "llava": [
        {
            "image": picture().url,
            "conversations": [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "Red."}],
            "page": 3,
        },
        {
            "image": [picture().url, picture((0, 0, 255)).url],
            "conversations": [
                {"from": "human", "value": "<image> or <image>?"},
                {"from": "gpt", "value": "Both"},
            ],
            "page": 3,
        },
    ],
    "alpaca": [
        {"instruction": "Add", "input": "1 2", "output": "3", "history": [["Hi", "Hello"]], "page": 3}
    ],
    "classified": [
        {"text_a": "It rains.", "text_b": "It is wet.", "label": 1, "page": 3},
        {"text_a": "A gem.", "text_b": None, "label": 0, "page": 3},
    ],
    "completion": [{"prompt": "Hi", "completion": "Hello", "page": 3}],
    "faq": [
        {"questions": "Where?", "answer": "Here.", "page": 3},
        {"questions": ["Where?", "In which place?"], "answer": "Here.", "page": 3},
    ],
    "moderation": [
        {"prompt": "Hi", "S": 0, "V2": 1, "page": 3},
        {"prompt": "Hi", "S": 0, "V2": 0, "S3": 1, "page": 3},
    ],
    "problems": [
        {"question": "1+1?", "answer": "#### 2", "page": 3},
    ],
    "pairs": [{"prompt": "Hi", "chosen": "Hello", "rejected": "Go away", "page": 3}],
    "text": [{"text": "The cat sat on the mat.", "page": 3}],
    "prompt": [{"prompt": "Hi", "page": 3}],
    "exchanges": [{"conversation": [{"human": "Hi", "assistant": "Hello"}], "system": "Be kind.", "page": 3}],
    "pairs-hh": [
        {
            "chosen": "\n\nHuman: Hi\n\nAssistant: Hello",
            "rejected": "\n\nHuman: Hi\n\nAssistant: Go away",
            "page": 3,
        }
    ],
    "pairs-sharegpt": [
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "Go away"},
            "page": 3,
        }
    ],
    "pairs-alpaca": [
        {"instruction": "Add", "input": "1 2", "chosen": "3", "rejected": "4", "margin": 0.5, "page": 3}
    ],
    "pairs-messages": [
        {"messages": SAID, "rejected_response": "Go away", "page": 3},
        {"messages": SAID, "rejected_response": [{"role": "assistant", "content": "No"}], "page": 3},
    ],
    "kto": [{"prompt": "Hi", "completion": "Hello", "label": True, "page": 3}],
    "kto-messages": [{"messages": SAID, "label": False, "page": 3}],
    "kto-sharegpt": [
        {
            "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
            "kto_tag": True,
            "page": 3,
        }
    ],
    "kto-alpaca": [{"instruction": "Add", "input": "1 2", "output": "3", "kto_tag": False, "page": 3}],
    "stepwise": [{"prompt": "9 or 8?", "completions": ["9.", "No, 8."], "labels": [True, False], "page": 3}],
    "oasst": [
        {
            "message_tree_id": "t",
            "page": 3,
            "prompt": {
                "message_id": "a",
                "text": "Hi",
                "role": "prompter",
                "replies": [
                    {"message_id": "b", "text": "Hello", "role": "assistant", "rank": 0, "replies": []},
                    {"message_id": "c", "text": "Hallo", "role": "assistant", "lang": "de", "replies": []},
                ],
            },
        }
    ],
    "summarised": [{"dialogue": "A: Hi\nB: Hello", "summary": "They greet.", "page": 3}],
    "turnsmith": [json.loads(json.dumps(formats.to_row(example))) for example in variety()],
    "levels": [
        {
            "context": ["Hi", "Who are you?"],
            "positive_responses": ["Ann.", "I am Ann."],
            "adversarial_negative_responses": ["You are who."],
            "random_negative_responses": ["Rain."],
            "page": 3,
        }
    ],
    "judged": [{"context": ["Hi"], "hyp_response": "Hello", "human_score": 3.5, "page": 3}],
    "feedback": [
        {
            "image_id": "7",
            "caption": "A cat.",
            "interaction": [
                {"user": "What is it?", "model": "A dog.", "rating": "1", "critique NLF": "Wrong."},
                {"user": "Look again.", "model": "A cat.", "rating": 4, "critique_NLF": "Right."},
            ],
            "page": 3,
        }
    ],
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
ROWS["chitchat-stamped"] = [
    {
        **ROWS["chitchat"][0],
        "messages": [
            [{"sender": who, "text": "Hi", "timestamp": f"2018-05-10T20:16:5{second}Z"}]
            for second, who in enumerate(("ann", "ann", "bob"))
        ],
    }
]


@pytest.mark.parametrize("check", FORMAT, ids=lambda check: check.__name__)
@pytest.mark.parametrize("entry", REGISTRY.entries("format"), ids=lambda entry: entry.name)
def test_contract(entry, check):
    check(entry.name, ROWS[entry.name], REGISTRY)
