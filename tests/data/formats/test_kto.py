"""Single answers with a verdict: three layouts and Alpaca's, one value."""

import pytest

from turnsmith.data.formats.kto import kto, kto_alpaca, kto_messages, kto_sharegpt
from turnsmith.errors import DataError
from turnsmith.testing import chat

SAID = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
LAYOUTS = [
    (kto, {"prompt": "Hi", "completion": "Hello"}, "label"),
    (kto_messages, {"messages": SAID}, "label"),
    (kto_sharegpt, {"conversations": TURNS}, "kto_tag"),
    (kto_alpaca, {"instruction": "Hi", "input": "", "output": "Hello"}, "kto_tag"),
]


@pytest.mark.parametrize(("read", "row", "column"), LAYOUTS)
@pytest.mark.parametrize(
    ("written", "label"), [(True, 1.0), (False, 0.0), (1, 1.0), ("False", 0.0), ("true", 1.0)]
)
def test_the_verdict_is_a_value_in_every_layout(read, row, column, written, label):
    found = read({**row, column: written})
    assert found.values == {"label": label}
    assert [(m.role, m.content, m.weight) for m in found.parts["text"].messages] == [
        ("user", "Hi", 0.0), ("assistant", "Hello", None),
    ]  # fmt: skip
    assert column in found.used


@pytest.mark.parametrize(("read", "row", "column"), LAYOUTS)
@pytest.mark.parametrize("verdict", ["spam", 2, None, [], 0.5])
def test_a_verdict_that_is_none_is_refused(read, row, column, verdict):
    with pytest.raises(DataError, match=f"{column} must be true or false"):
        read({**row, column: verdict})


def test_only_the_last_answer_was_judged():
    said = [*SAID, {"role": "user", "content": "And you?"}, {"role": "assistant", "content": "Fine"}]
    text = kto_messages({"messages": said, "label": True}).parts["text"]
    assert [m.weight for m in text.messages] == [0.0, 0.0, 0.0, None]
    assert [m.content for m in text.messages] == [
        m.content for m in chat("u: Hi", "a: Hello", "u: And you?", "a: Fine").messages
    ]


def test_an_answer_is_needed():
    with pytest.raises(DataError, match="it needs a question and an answer; the roles are 'user'"):
        kto_messages({"messages": SAID[:1], "label": True})
