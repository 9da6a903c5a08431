"""How often the reward is asked where samples are drawn once, and where they are drawn while it learns."""

from pathlib import Path

import pytest

import turnsmith

OWN = '''
from pathlib import Path

from turnsmith.registry import scorer
from turnsmith.scorers.bump import bump


@scorer("noted")
def noted(conversations, examples):
    """The bump at 20; each call leaves a line with the number of what is judged."""
    with Path("asked.txt").open("a") as opened:
        opened.write(f"{len(conversations)}\\n")
    return bump(conversations, examples, peak=20)
'''
FIT = {"steps": 4, "batch": 3, "length": 64, "dtype": "float32", "lr": 1e-2}


def recipe(**train):
    answers = {"answers": {"by": "base", "reward": "noted", "n": 5, "max_new": 1}}
    step = {"name": "policy", "objective": "reinforce", "trainable": "full", "train_on": "last", "fit": FIT}
    return {
        "title": "asked",
        "base": {"markov": {"hidden": 8}},
        "forgetting": False,
        "steps": [
            {"data": {"name": "contexts", "stages": [{"bandit": {"count": 6}}]}},
            *(
                []
                if "collect" in train
                else [{"data": {"name": "drawn", "from": "contexts", "stages": [answers]}}]
            ),
            {"train": {**step, **train}},
        ],
    }


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    Path("own.py").write_text(OWN)


def asked(plain):
    turnsmith.run(plain, name="asked", use=["own.py"])
    return [int(line) for line in Path("asked.txt").read_text().split()]


def test_offline_the_reward_is_asked_once_for_each_of_n_samples_of_all_prompts():
    assert asked(recipe(data="drawn")) == [6 * 5]


def test_on_policy_it_is_asked_as_often_in_each_round_for_that_rounds_prompts():
    answers = {"answers": {"by": "policy", "reward": "noted", "n": 5, "max_new": 1}}
    collect = {"examples": 3, "epochs": 2, "stages": [answers]}
    assert asked(recipe(data="contexts", collect=collect)) == [3 * 5, 3 * 5]  # 4 steps, 2 in each round
