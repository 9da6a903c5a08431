"""72 real chat templates, held to the table of what holds for each."""

import importlib.util
import json
from functools import cache
from pathlib import Path

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.errors import RenderError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.testing import chat, model, tokenizer
from turnsmith.types import Call, Conversation, Example, Message

TOOL = Path(__file__).parents[2] / "tools" / "templates.py"
TABLE = json.loads((Path(__file__).parent / "templates.json").read_text("utf-8"))
CALLING = Conversation(
    (
        Message("user", "Rain?"),
        Message("assistant", "", calls=(Call("rain", {"city": "Oslo"}, "c1"),), thinking="I look it up."),
        Message("tool", "Much.", call_id="c1"),
    ),
    ({"type": "function", "function": {"name": "rain", "description": "Rain.", "parameters": {}}},),
)
NEITHER = ("none", "one sequence", "one for each reply")


@cache
def tool():
    spec = importlib.util.spec_from_file_location("templates_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def passes(outcome):
    return outcome in NEITHER or outcome.startswith("pass")


def test_the_table_holds_every_template_and_says_why_one_is_refused():
    assert sorted(TABLE) == sorted(tool().templates())
    assert len(TABLE) == 72
    for name, row in TABLE.items():
        if row["load"] == "pass":
            assert all(passes(outcome) for outcome in row.values()), name
        else:
            assert "example 'probe'" in row["load"] or "never learn to stop" in row["load"], name


@pytest.mark.parametrize("name", sorted(TABLE))
def test_what_held_for_a_template_holds_still(name):
    from turnsmith.testing import properties

    words = tool().speaking(tokenizer(), tool().templates()[name])
    found = properties(words, count=6)
    # A tokenizer of 300 tokens joins nothing over the start of a reply; SmolLM2's does.
    expected = {key: value.removesuffix(" up to replies") for key, value in TABLE[name].items()}
    assert found == expected


@pytest.mark.slow
def test_the_table_is_that_of_smollm2s_tokenizer():
    from turnsmith.models import load

    assert tool().table(load.tokenizer("smollm2-135m-instruct")) == TABLE


def gain(name):
    """How much likelier three steps make the replies of a chat; None where the template is refused."""
    words = tool().speaking(tokenizer(), tool().templates()[name])
    try:
        renderer = Renderer(words)
    except RenderError:
        return None
    said = chat("u: Hi there", "a: Hello, how are you?", "u: Fine. And you?", "a: I am fine, thank you.")
    rendered, _ = prepare([Example({"text": said}, {}, {"id": "one"})], renderer, ("text",), length=4000)
    small = model(vocabulary=len(words))
    forest.attach(small)
    scoring, batch = Scoring(small), pack(rendered)
    optimiser = torch.optim.SGD(small.parameters(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = -scoring(batch).logprobs.mean()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return losses[0] - losses[-1]


def test_training_works_for_sixty_and_more():
    gains = {name: gain(name) for name in TABLE}
    assert {name for name, one in gains.items() if one is None} == {
        name for name, row in TABLE.items() if row["load"] != "pass"
    }
    learnt = [name for name, one in gains.items() if one is not None and one > 0]
    assert len(learnt) >= 67


def test_thoughts_that_a_template_forgets_once_it_has_answered_stand_before_the_answer():
    words = tool().speaking(tokenizer(), tool().templates()["gptoss"])
    renderer = Renderer(words)
    asked, called, told = CALLING.messages
    answered = Conversation((asked, called, told, Message("assistant", "It rains.")), CALLING.tools)
    [tokens] = renderer.render(answered)
    assert words.decode(tokens.inputs[tokens.weights > 0]) == (
        "<|channel|>analysis<|message|>I look it up.<|end|><|start|>assistant to=functions.rain"
        '<|channel|>commentary json<|message|>{"city": "Oslo"}<|call|>'
        "<|channel|>final<|message|>It rains.<|return|>"
    )
    prompt = renderer.prompt(answered.upto(3))
    assert tokens.inputs[: len(prompt)].tolist() == prompt
    assert "I look it up" not in words.decode(renderer.whole(answered))  # the template itself forgets it
