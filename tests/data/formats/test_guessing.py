"""Which format rows are in: by their columns, by what stands in them, with the evidence said."""

import pytest

from turnsmith.data.formats import Guess, guess
from turnsmith.errors import DataError
from turnsmith.registry import Registry

ENTRIES = Registry().entries("format")
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"prompt": "", "reward": 1}, "prompt"),
        ({"prompt": "", "completion": "", "label": True}, "kto"),
        ({"prompt": "", "completion": "", "label": "spam"}, "completion"),  # no verdict
        ({"messages": [], "label": False}, "kto-messages"),
        ({"messages": [], "label": "spam"}, "messages"),
        ({"conversations": [], "kto_tag": True}, "kto-sharegpt"),
        ({"instruction": "", "output": "", "kto_tag": True}, "kto-alpaca"),
        ({"conversations": [], "chosen": {}, "rejected": {}}, "pairs-sharegpt"),
        ({"instruction": "", "input": "", "chosen": "", "rejected": ""}, "pairs-alpaca"),
        ({"messages": [], "rejected_response": ""}, "pairs-messages"),
        ({"messages": [], "rejected_messages": []}, "pairs-messages"),
        (HH, "pairs-hh"),
        ({**HH, "rejected": "c"}, "pairs"),
        ({"prompt": "", "completions": [], "labels": []}, "stepwise"),
        ({"message_tree_id": "", "prompt": {}}, "oasst"),
        ({"conversation": [{"human": "a", "assistant": "b"}]}, "exchanges"),
        ({"conversation": '[{"human": "a", "assistant": "b"}]'}, "exchanges"),
        ({"conversation": [{"role": "user", "content": "b"}]}, "sharegpt"),
    ],
)
def test_a_format_is_known_by_its_columns_and_what_is_in_them(row, name):
    assert guess([row], ENTRIES).name == name


def test_the_evidence_is_said():
    rows = [{"messages": [], "label": True, "page": 1}, {"messages": [], "label": False}]
    columns = "the columns messages and label, with label in its form"
    why = f"all 2 rows that were looked at have {columns}; messages would need less"
    assert guess(rows, ENTRIES) == Guess("kto-messages", ("messages", "label"), why)


def test_one_row_that_is_unlike_the_form_is_enough():
    rows = [{"messages": [], "label": True}, {"messages": [], "label": "unsure"}]
    assert guess(rows, ENTRIES).name == "messages"


def test_the_first_row_that_differs_is_named():
    rows = [{"messages": []}, {"messages": [], "page": 1}, {"prompt": "", "completion": ""}, {"text": ""}]
    said = "row 3 is the first that differs: it has completion, prompt, and those before column messages"
    with pytest.raises(DataError, match=said):
        guess(rows, ENTRIES)
