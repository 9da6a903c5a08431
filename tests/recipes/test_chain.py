"""Steps that go on from each other's adapters, as the chain of card 61: text, talks, a judge, PPO."""

import json
from pathlib import Path

import pytest
import torch

import turnsmith
from turnsmith.models import load
from turnsmith.scorers.reward_model import RewardModel
from turnsmith.testing import chat, directory
from turnsmith.types import Example

FIT = {"batch": 4, "length": 64, "dtype": "float32", "lr": 1e-2, "checkpoint": 100}
LORA = {"lora": {"rank": 4}}
TALKS = [
    {"messages": [{"role": role, "content": text.format(at)} for role, text in said]}
    for at in range(12)
    for said in [
        [("user", "{0} hurts."), ("assistant", "Since {0}?"), ("user", "Yes."), ("assistant", "Rest.")]
    ]
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The chain, made once: what each step left, by its name."""
    place = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TURNSMITH_HOME", str(place / "home"))
        Path("talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TALKS))
        adapter = {"data": "talks", "trainable": LORA}
        drawn = {"by": "ppo", "to": "text", "n": 2, "max_new": 4}
        steps = [
            {"data": {"name": "talks", "read": "talks.jsonl"}},
            {"train": {**adapter, "name": "read", "train_on": "all", "fit": {**FIT, "steps": 6}}},
            {"train": {**adapter, "name": "doctor", "start": "read", "fit": {**FIT, "steps": 6}}},
            {
                "data": {
                    "name": "ranked",
                    "from": "talks",
                    "stages": [
                        {"answers": {**drawn, "by": "doctor", "n": 4, "reward": "fewest_tokens"}},
                        {"every_pair": {"least": -1.0}},
                    ],
                }
            },
            {
                "train": {
                    **adapter,
                    "name": "judge",
                    "start": "doctor",
                    "data": "ranked",
                    "objective": "token_reward",
                    "train_on": "last",
                    "fit": {**FIT, "steps": 4},
                }
            },
            {
                "train": {
                    **adapter,
                    "name": "ppo",
                    "start": "doctor",
                    "objective": "ppo",
                    "collect": {
                        "stages": [
                            {"answers": {**drawn, "reward": {"reward_model": {"by": "judge"}}}},
                            "each_answer",
                        ],
                        "examples": 4,
                    },
                    "fit": {**FIT, "steps": 2, "batch": 8, "reference": "live", "schedule": "constant"},
                }
            },
        ]
        plain = {"title": "c", "base": str(directory(place / "base")), "forgetting": False, "steps": steps}
        (found,) = turnsmith.run(plain, name="chain")
        yield {step["name"]: step for step in found["steps"]}


def logits(reference):
    model, words = load.load(reference)
    with torch.no_grad():
        return model.eval()(words("3 hurts. Since 3?", return_tensors="pt")["input_ids"]).logits


def test_four_answers_to_a_prompt_are_six_pairs(made):
    """Check of card 61; equal ranks are kept here, so that there are none fewer."""
    assert made["ranked"]["examples"] == 6 * len(TALKS)


def test_a_step_goes_on_with_the_adapter_of_the_one_before(made):
    files = [Path(made[name]["path"], "model", "adapter_config.json") for name in ("read", "doctor")]
    assert [json.loads(file.read_text())["r"] for file in files] == [4, 4]
    read, doctor = (logits(made[name]["path"] + "/model") for name in ("read", "doctor"))
    bare = logits(made["read"]["start"])
    assert (doctor - bare).norm() > (read - bare).norm() / 2  # what was read is in it
    assert not torch.equal(read, doctor)


def test_a_new_adapter_of_nothing_on_the_merged_ones_leaves_the_logits_as_they_are(made, tmp_path):
    """Check of card 61: B of a fresh adapter is 0."""
    from peft import LoraConfig, get_peft_model

    model, words = load.load(made["doctor"]["path"] + "/model")
    ids = words("3 hurts. Since 3?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before = model.eval()(ids).logits
        merged = model.merge_and_unload()
        fresh = get_peft_model(merged, LoraConfig(r=4, target_modules="all-linear")).eval()
        torch.testing.assert_close(fresh(ids).logits, before, rtol=1e-4, atol=1e-5)


def test_ppo_is_held_against_the_tuned_model_and_not_against_the_bare_base(made):
    """Check of card 61: at its first step it is where its reference is, though both are far from the base."""
    first = json.loads(Path(made["ppo"]["path"], "metrics.jsonl").read_text().splitlines()[0])
    assert first["ratio"] == pytest.approx(1, abs=1e-5)
    assert first["from_start"] == pytest.approx(0, abs=1e-5)
    assert made["ppo"]["start"].startswith(made["doctor"]["path"])


def test_a_judge_of_every_token_judges_answers(made):
    judge = RewardModel(by=made["judge"]["path"] + "/model")
    asked = [chat("u: 3 hurts.", "a: Since 3?"), chat("u: 3 hurts.", "a: Rest.")]
    one, other = judge(asked, [Example({"text": talk}, {}, {"id": str(at)}) for at, talk in enumerate(asked)])
    assert one is not None
    assert one != other
