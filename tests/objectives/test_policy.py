"""PPO by hand, and on a model small enough that the best answer is found."""

import json
from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np
import pytest
import torch

import turnsmith
from turnsmith.data.batch import pack
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.advantages import gae, whitened
from turnsmith.objectives.policy import Ppo
from turnsmith.testing import chat, jsonl, model, scores, tokens
from turnsmith.types import Example, Rendered


def drawn(logprobs, *, reward, value, reference=None):
    """Scores of answers with the log-probs of their tokens, their rewards, and the values before tokens."""
    flat = [one for ones in value for one in ones]
    given = scores(
        {"text": logprobs},
        reference={"text": reference or logprobs},
        values={"reward": reward},
        heads={"value": flat},
    )
    return replace(given, logprobs=given.logprobs.detach().requires_grad_())


def credited(ppo, given):
    """The scores with what credit says of them as the only ones of their round."""
    with torch.no_grad():
        (extras,) = ppo.credit([replace(given, logprobs=given.logprobs.detach())])
    return replace(given, extras=extras)


# ------------------------------------------------------------------------------------------- advantages


def test_advantages_of_three_actions_by_hand():
    found = gae(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.25, 0.5]), discount=0.9, trace=0.5)
    # d = (0.9 * 0.25 - 0.5, 0.9 * 0.5 - 0.25, 1 - 0.5) = (-0.275, 0.2, 0.5); then each 0.45 of what follows.
    assert found.tolist() == pytest.approx([-0.275 + 0.45 * 0.425, 0.2 + 0.45 * 0.5, 0.5])


def test_with_a_trace_of_1_an_advantage_is_the_return_above_the_value():
    rewards, values = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0.5, 1.0, -1.0])
    assert gae(rewards, values, discount=1.0, trace=1.0).tolist() == [2.5, 1.0, 5.0]  # 3, 2, 4 less values


def test_with_a_trace_of_0_an_advantage_is_one_step_ahead():
    rewards, values = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 1.0])
    assert gae(rewards, values, discount=1.0, trace=0.0).tolist() == [1.5, 1.0]


def test_whitened_numbers_have_mean_0_and_deviation_1():
    assert whitened(torch.tensor([1.0, 3.0])).tolist() == [-1.0, 1.0]


def test_equal_numbers_are_whitened_to_0():
    assert whitened(torch.full((3,), 0.1)).tolist() == [0.0, 0.0, 0.0]
    assert whitened(torch.tensor([2.0])).tolist() == [0.0]


def test_advantages_are_whitened_over_all_batches_of_a_round():
    ppo = Ppo(kl=0.0, trace=1.0)
    ones = [drawn([[-1.0]], reward=[score], value=[[0.0]]) for score in (1.0, 3.0)]
    with torch.no_grad():
        found = ppo.credit(ones)
    assert [one["advantage"].tolist() for one in found] == [[-1.0], [1.0]]
    assert [one["target"].tolist() for one in found] == [[1.0], [3.0]]  # what the value learns is not


# ---------------------------------------------------------------------------------------------- rewards


def test_every_token_pays_for_leaving_the_start_and_the_last_one_is_paid():
    given = drawn(
        [[-1.0, -2.0], [-0.5]],
        reference=[[-1.5, -1.0], [-0.5]],
        reward=[2.0, -9.0],
        value=[[0.0, 0.0], [0.0]],
    )
    # -0.1 * (0.5, -1) and 2 on the last token; the other answer's reward is held at -5.
    assert Ppo(kl=0.1).rewards(given).tolist() == pytest.approx([-0.05, 0.1 + 2.0, -5.0])


def test_a_constant_reward_gives_no_advantage():
    """Check of card 11: advantages after whitening are 0, and nothing is divided by 0."""
    given = drawn([[-1.0, -2.0], [-0.5]], reward=[0.7, 0.7], value=[[0.0, 0.0], [0.0]])
    found = credited(Ppo(trace=1.0), given)
    assert found.extras["advantage"].tolist() == [0.0, 0.0, 0.0]
    known = drawn([[-1.0, -2.0], [-0.5]], reward=[0.7, 0.7], value=[[0.7, 0.7], [0.7]])
    assert credited(Ppo(trace=0.95), known).extras["advantage"].tolist() == pytest.approx([0.0] * 3)
    loss = Ppo(trace=1.0, value_weight=0.0)(found).values.sum()
    (gradient,) = torch.autograd.grad(loss, found.logprobs)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


# ----------------------------------------------------------------------------------------------- losses


def test_before_the_first_update_ratios_are_1_and_nothing_is_clipped():
    """Check of card 11: pi = ref, the KL term is exactly 0."""
    given = credited(Ppo(), drawn([[-1.0, -2.0], [-0.5]], reward=[1.0, -1.0], value=[[0.3, 0.1], [0.2]]))
    assert Ppo(kl=7.0).rewards(given).tolist() == [0.0, 1.0, -1.0]
    loss = Ppo()(given)
    assert loss.metrics["ratio"].tolist() == [1.0, 1.0, 1.0]
    assert loss.metrics["clipped"].tolist() == [0.0, 0.0, 0.0]
    assert loss.metrics["from_start"].tolist() == [0.0, 0.0, 0.0]
    (gradient,) = torch.autograd.grad(loss.values.sum(), given.logprobs)
    assert gradient.tolist() == pytest.approx((-given.extras["advantage"]).tolist())


@pytest.mark.parametrize(
    ("moved", "advantage", "loss", "slope"),
    [
        (0.1, 2.0, -2 * exp(0.1), -2 * exp(0.1)),
        (0.5, 2.0, -2 * 1.2, 0.0),  # likelier by more than a fifth: no more is gained
        (0.5, -2.0, 2 * exp(0.5), 2 * exp(0.5)),  # likelier although it is bad: it comes back
        (-0.5, -2.0, 2 * 0.8, 0.0),
        (-0.5, 2.0, -2 * exp(-0.5), -2 * exp(-0.5)),
    ],
)
def test_what_is_gained_ends_where_the_ratio_leaves_its_bounds(moved, advantage, loss, slope):
    given = drawn([[-1.0]], reward=[0.0], value=[[0.0]])
    number = {"old": -1.0 - moved, "advantage": advantage, "target": 0.0, "expected": 0.0}
    extras = {name: torch.tensor([one], dtype=torch.float64) for name, one in number.items()}
    made = replace(given, extras=extras)
    found = Ppo(clip=0.2).__call__(made).values
    (gradient,) = torch.autograd.grad(found.sum(), made.logprobs)
    assert (found.item(), gradient.item()) == (pytest.approx(loss), pytest.approx(slope))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (1.1, (1.1 - 2.0) ** 2 / 2),  # within 0.2 of the value then
        (1.9, (1.2 - 2.0) ** 2 / 2),  # it came nearer than it may at once: no credit for that
        (0.5, (0.5 - 2.0) ** 2 / 2),  # it went away: its own error is the larger one
    ],
)
def test_the_value_is_held_near_what_it_was(value, error):
    given = drawn([[-1.0]], reward=[0.0], value=[[value]])
    number = {"old": -1.0, "advantage": 0.0, "target": 2.0, "expected": 1.0}
    extras = {name: torch.tensor([one], dtype=torch.float64) for name, one in number.items()}
    loss = Ppo(clip_value=0.2, value_weight=0.5)(replace(given, extras=extras))
    assert loss.values.item() == pytest.approx(0.5 * error)
    assert loss.metrics["value_error"].item() == pytest.approx(error)


def test_tokens_behind_the_end_of_an_answer_change_nothing():
    """Check of card 11: what comes after the stop position is in no loss."""
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads={"value": 1}).eval()
    found = []
    for behind in (7, 90):
        one = tokens([5, 6, 8, 9, behind, behind], 2)
        one = replace(one, weights=np.array([0, 0, 1, 1, 0, 0], np.float32))
        batch = pack([Rendered("a", {"text": (one,)}, {"reward": 1.0})])
        with torch.no_grad():
            s = scoring(batch)
        found.append(Ppo()(credited(Ppo(), replace(s, reference=s.logprobs - 0.5))).values.tolist())
    assert len(found[0]) == 2
    assert found[0] == pytest.approx(found[1], abs=1e-6)


# ------------------------------------------------------------------------- a model that knows three words

WORDS = ("yes", "no", "bad")  # without a letter in common: the network sees one letter back
FIT = {"length": 64, "dtype": "float32", "schedule": "constant", "checkpoint": 1000}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A network that says one of three words, as often each; where it lies, and what is asked of it."""
    where = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.setenv("TURNSMITH_HOME", str(where / "home"))
        said = [Example({"text": chat("u: ?", f"a: {word}")}, {}, {"id": word}) for word in WORDS]
        jsonl(where / "said.jsonl", said)
        # A prompt without an answer: no step of PPO reads what anybody said (check of card 11).
        jsonl(where / "asked.jsonl", [Example({"text": chat("u: ?")}, {}, {"id": "asked", "word": "yes"})])
        fit = {**FIT, "steps": 60, "batch": 3, "lr": 3e-2}
        steps = [
            {"data": {"name": "said", "read": "said.jsonl"}},
            {"train": {"name": "start", "data": "said", "trainable": "full", "fit": fit}},
        ]
        base = {"markov": {"hidden": 32}}
        (found,) = turnsmith.run(
            {"title": "w", "base": base, "forgetting": False, "steps": steps}, name="start"
        )
        yield Path(found["steps"][-1]["path"]) / "model"


def tuned(start, *, steps, lr, **ppo):
    """The figures of a model that PPO has tuned, and of the start; and the metrics of its steps."""
    return learnt(start, {"ppo": ppo}, steps=steps, lr=lr, batch=24, epochs=4)


def learnt(start, objective, *, steps, lr, batch, epochs):
    """The same of a model that another loss over its own answers has tuned; a step takes `batch` examples."""
    asked = {"max_new": 6, "reward": {"rules": {"keywords": "word", "within": 6, "bad": ["bad"]}}}
    stages = [{"answers": {"by": "policy", "n": 24, **asked}}, *(["each_answer"] if batch == 24 else [])]
    train = {
        "name": "policy",
        "data": "asked",
        "objective": objective,
        "trainable": "full",
        "collect": {"stages": stages, "examples": 1, "epochs": epochs},
        "fit": {**FIT, "steps": steps, "batch": batch, "lr": lr, "reference": "live"},
    }
    suite = [{"rewarded": {"on": "asked", "n": 40, **asked}}]
    steps = [
        {"data": {"name": "asked", "read": "asked.jsonl"}},
        {"train": train},
        {"evaluate": {"model": "policy", "suite": suite}},
    ]
    plain = {"title": "w", "base": str(start), "forgetting": False, "steps": steps}
    (found,) = turnsmith.run(plain, name="words")
    (measured,) = found["steps"][-1]["tasks"]
    metrics = [json.loads(line) for line in (Path(found["steps"][1]["path"]) / "metrics.jsonl").open()]
    return {row["name"]: row for row in measured["metrics"]}, metrics


def test_the_best_answer_is_found(start):
    rows, metrics = tuned(start, steps=48, lr=1e-2, kl=0.0)
    assert abs(rows["reward"]["before"]) < 0.5  # one in three is good, one bad
    assert rows["reward"]["after"] > 0.9  # of at most 1
    assert rows["divergence"]["after"] > 0.5  # that of always `yes` is log 3
    assert metrics[0]["ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics[0]["clipped"] == 0


@pytest.mark.parametrize(
    "objective",
    [{"rloo": {"kl": 0.0}}, {"rloo": {"kl": 0.0, "baseline": "round"}}, {"grpo": {"kl": 0.0}}],
    ids=["rloo", "reinforce", "grpo"],
)
def test_the_best_answer_is_found_without_a_value_model_too(start, objective):
    """A group of answers is one example, of which a step takes one."""
    rows, metrics = learnt(start, objective, steps=24, lr=1e-2, batch=1, epochs=2)
    assert abs(rows["reward"]["before"]) < 0.5
    assert rows["reward"]["after"] > 0.9
    assert metrics[0]["ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics[0]["from_start"] == pytest.approx(0, abs=1e-4)


def test_what_pays_much_for_nearness_stays_near(start):
    """Check of card 11: KL < 0.01 where its coefficient is very large."""
    near, _ = tuned(start, steps=24, lr=1e-3, kl=100.0)
    free, _ = tuned(start, steps=24, lr=1e-3, kl=0.0)
    assert near["divergence"]["after"] < 0.01
    assert free["divergence"]["after"] > 3 * near["divergence"]["after"]
