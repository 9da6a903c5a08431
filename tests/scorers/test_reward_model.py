"""A model that was trained to judge, as a scorer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.data.render import Renderer
from turnsmith.errors import ModelError
from turnsmith.models import load
from turnsmith.models.heads import FILE
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.testing import chat, conversations, directory, jsonl
from turnsmith.types import Example


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A model trained for a few steps to prefer one kind of answer, in a directory, and the run's record."""
    where = tmp_path_factory.mktemp("judge")
    jsonl(where / "pairs.jsonl", conversations(6, parts=("chosen", "rejected")))
    base = directory(where / "base")
    fit = {"steps": 12, "batch": 6, "length": 128, "dtype": "float32", "lr": 1e-2}
    rule = {"reward_model": {"by": "judge"}}
    recipe = {
        "title": "judge",
        "base": str(base),
        "forgetting": False,
        "steps": [
            {"data": {"name": "pairs", "read": "pairs.jsonl"}},
            {
                "train": {
                    "name": "judge",
                    "data": "pairs",
                    "objective": "reward",
                    "trainable": "full",
                    "fit": fit,
                }
            },
            {
                "data": {
                    "name": "drawn",
                    "from": "pairs",
                    "stages": [
                        {"answers": {"by": "base", "to": "chosen", "n": 2, "max_new": 4, "reward": rule}}
                    ],
                }
            },
        ],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        patch.chdir(where)
        (found,) = turnsmith.run(recipe, name="judge")
        yield Path(found["steps"][1]["path"]), found


def by_hand(model_directory, conversation):
    """The head on the last state that plain transformers give of the whole conversation."""
    model, words = load.load(str(model_directory), dtype="float32", device="cpu")
    (tokens,) = Renderer(words).render(conversation)
    head = load_file(model_directory / FILE)
    with torch.no_grad():
        states = model.model(input_ids=torch.tensor([tokens.inputs.tolist()])).last_hidden_state
        return float(head["reward.weight"] @ states[0, -1] + head["reward.bias"])


@pytest.mark.usefixtures("home")
def test_a_conversation_gets_what_the_head_says_at_its_last_token(judge):
    path, _ = judge
    asked = [chat("u: Hi", "a: The cat sat."), chat("u: Hello there", "a: Thank you, and how are you?")]
    examples = [Example({"text": one}, {}, {"id": str(number)}) for number, one in enumerate(asked)]
    found = RewardModel(by=str(path / "model"))(asked, examples)
    assert found == pytest.approx([by_hand(path / "model", one) for one in asked], abs=1e-5)


def test_what_was_preferred_is_judged_higher(judge):
    path, _ = judge
    pairs = conversations(6, parts=("chosen", "rejected"))
    judged = [
        RewardModel(by=str(path / "model"))([one.parts[part] for one in pairs], pairs)
        for part in ("chosen", "rejected")
    ]
    right = sum(good > poor for good, poor in zip(*judged, strict=True))
    assert right >= 5


def test_what_is_too_long_is_not_judged(judge):
    path, _ = judge
    asked = [chat("u: Hi", "a: " + "The cat sat. " * 30), chat("u: Hi", "a: Yes")]
    examples = [Example({"text": one}, {}, {"id": str(number)}) for number, one in enumerate(asked)]
    first, second = RewardModel(by=str(path / "model"), length=60)(asked, examples)
    assert first is None
    assert second is not None


def test_a_stage_has_its_answers_judged_by_a_model_of_the_recipe(judge):
    _, found = judge
    rows = [json.loads(line) for line in (Path(found["steps"][2]["path"]) / "all.jsonl").open()]
    rewards = [value for row in rows for value in row["values"]["reward"]]
    assert len(rewards) == 12
    assert len(set(rewards)) > 6


def test_a_model_that_was_not_trained_to_judge_is_refused(judge):
    path, _ = judge
    base = path.parents[2] / "base"
    with pytest.raises(ModelError, match="no head that judges: train it under the objective `reward`"):
        RewardModel(by=str(base))([chat("u: Hi", "a: Yes")], [Example({}, {}, {"id": "x"})])
