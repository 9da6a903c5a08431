"""Implicit Q-learning by hand: expectiles, what is backed up, what keeps unseen tokens low. Card 12."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.models.score import Scoring
from turnsmith.objectives.offline import asymmetric, ilql
from turnsmith.testing import method, model, scores, tokens
from turnsmith.train.passes import Passes
from turnsmith.types import Batch, Rendered, Scores

METHOD = method("ilql")
ZERO = {"v_weight": 0.0, "q_weight": 0.0, "cql_weight": 0.0, "bc_weight": 0.0}
SUMS = ("q1:logsumexp/1.0", "q2:logsumexp/1.0")


def given(*said: list[float], reward: list[float], temperature: float = 1.0, **heads: list[float]) -> Scores:
    """Dialogues with these log-probs, heads and rewards; what is not given of Q is 0, and so are the sums."""
    count = sum(map(len, said))
    names = ("v", "q1", "q2", "q1_target", "q2_target")
    filled = {name: heads.get(name, [0.0] * count) for name in names}
    sums = {
        f"{name}:logsumexp/{temperature}": heads.get(f"{name}_sum", [0.0] * count) for name in ("q1", "q2")
    }
    return scores({"text": said}, values={"reward": reward}, heads=filled, reduced=sums)


def heads_of(scoring: Scoring, batch: Batch) -> list[torch.Tensor]:
    """What Q1 and Q2 say of the trained tokens."""
    return [scoring(batch).heads[name] for name in ("q1", "q2")]


def term(s: Scores, name: str, **options: Any) -> list[float]:
    """One term of the loss alone."""
    return ilql(s, **{**ZERO, f"{name}_weight": 1.0}, **options).values.tolist()


# ----------------------------------------------------------------------------------------- expectiles


@pytest.mark.parametrize(("tau", "expected"), [(0.5, 0.25), (0.7, 0.4375), (0.9, 0.75), (0.99, 0.99 / 1.02)])
def test_the_value_that_fits_0_0_0_1_best_is_their_expectile(tau: float, expected: float) -> None:
    """Card: 0.25 (the mean) at 0.5, 0.4375 at 0.7, 0.75 at 0.9, about 0.97 at 0.99. Where the slope is 0:
    tau (1 - e) = (1 - tau) 3 e."""
    values = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    low, high = 0.0, 1.0
    for _ in range(50):  # the loss is convex: halve where its slope is
        v = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(asymmetric(values - v, expectile=tau).sum(), v)
        low, high = (low, v.item()) if slope > 0 else (v.item(), high)
    assert low == pytest.approx(expected, abs=1e-9)


def test_v_is_fitted_to_the_lesser_copy() -> None:
    """Gaps of 1 above and 2 below: 0.7 * 1 and 0.3 * 4. The heads that learn have no say."""
    s = given(
        [-1.0, -1.0], reward=[0.0], v=[1.0, 3.0], q1_target=[2.0, 5.0], q2_target=[4.0, 1.0], q1=[9.0, 9.0]
    )
    assert term(s, "v", expectile=0.7) == pytest.approx([0.7, 1.2])


# ------------------------------------------------------------------------------------- what is backed up


def test_q_is_fitted_to_the_discounted_value_before_the_next_action_and_at_the_last_to_the_reward() -> None:
    """Two dialogues; the second one's first value is not what follows the first one's last action.

    Targets 0.5 * 4, then the reward 3; 0.5 * 8, then -1; both Q are 1.
    """
    s = given(
        [-1.0, -1.0], [-1.0, -1.0], reward=[3.0, -1.0], v=[2.0, 4.0, 6.0, 8.0], q1=[1.0] * 4, q2=[1.0] * 4
    )
    assert term(s, "q", discount=0.5) == [2 * 1.0, 2 * 4.0, 2 * 9.0, 2 * 4.0]


def test_v_is_no_further_moved_by_what_q_is_fitted_to() -> None:
    s = given([-1.0, -1.0], reward=[1.0], v=[2.0, 4.0], q1=[1.0, 1.0])
    ilql(s, **{**ZERO, "q_weight": 1.0}).values.sum().backward()
    assert not s.heads["v"].grad.any()
    assert s.heads["q1"].grad.tolist() == pytest.approx([2 * (1 - 0.99 * 4), 0.0])


def test_a_dialogue_without_an_action_adds_nothing_and_gives_no_nan() -> None:
    whole = ilql(given([-1.0], [], [-2.0], reward=[1.0, 5.0, 0.0], v=[0.5, 0.5]))
    without = ilql(given([-1.0], [-2.0], reward=[1.0, 0.0], v=[0.5, 0.5]))
    assert whole.values.tolist() == without.values.tolist()
    assert ilql(given([], reward=[1.0])).values.tolist() == []


def test_a_constant_reward_makes_every_q_and_v_that_reward() -> None:
    """Card: with gamma 1, Q = V = c everywhere once it has converged, and the advantage is 0."""
    rewards = [0.8, 0.8]
    table = {name: torch.zeros(5, dtype=torch.float64, requires_grad=True) for name in ("v", "q1", "q2")}
    step = torch.optim.SGD(table.values(), lr=0.2)
    for _ in range(400):
        s = given([-1.0] * 3, [-1.0] * 2, reward=rewards)
        copies = {f"{name}_target": table[name].detach() for name in ("q1", "q2")}
        loss = ilql(replace(s, heads={**table, **copies}), discount=1.0, cql_weight=0.0, expectile=0.7)
        step.zero_grad()
        loss.values.sum().backward()
        step.step()
    for values in table.values():
        assert values.tolist() == pytest.approx([0.8] * 5, abs=1e-6)
    assert loss.metrics["advantage"].tolist() == pytest.approx([0.0] * 5, abs=1e-6)


# --------------------------------------------------------------------------------- unseen tokens, cloning


def test_cql_is_the_cross_entropy_over_q_at_its_temperature() -> None:
    """Of tokens with Q 2 (taken) and 0: log(1 + exp(-2 / 0.5)); the other head has 0 for both: log 2."""
    s = given([-1.0], reward=[0.0], temperature=0.5, q1=[2.0], q1_sum=[log(exp(4) + 1)], q2_sum=[log(2)])
    assert term(s, "cql", cql_temperature=0.5) == pytest.approx([log(1 + exp(-4)) + log(2)])


def test_with_cql_the_token_of_the_data_gets_the_largest_q_and_without_it_others_stay_as_high() -> None:
    """Card. Three tokens, the second one is said, Q starts at 3, 0, 0; the reward is 1."""
    ends = []
    for weight in (0.0, 0.5):
        q = torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
        step = torch.optim.SGD([q], lr=0.1)
        for _ in range(500):
            s = given([-1.0], reward=[1.0])
            heads = {**s.heads, "q1": q[1:2], "q2": q[1:2]}
            s = replace(s, heads=heads, reduced={name: q.logsumexp(0)[None] for name in SUMS})
            step.zero_grad()
            ilql(s, cql_weight=weight).values.sum().backward()
            step.step()
        ends.append(q.tolist())
    assert ends[0] == pytest.approx([3.0, 1.0, 0.0], abs=1e-6)
    assert max(ends[1]) == ends[1][1]


def test_cloning_counts_a_token_by_its_advantage_or_all_alike() -> None:
    s = given([-1.0, -2.0], reward=[0.0], v=[0.0, 1.0], q1_target=[2.0, 0.0], q2_target=[1.0, 0.0])
    assert term(s, "bc") == [1.0, 2.0]
    assert term(s, "bc", beta=0.5) == pytest.approx([exp(0.5), 2 * exp(-0.5)])


def test_what_others_say_carries_no_loss_and_would_change_it_if_it_did() -> None:
    """Card: six tokens of which the human says the third and fourth; with their weights at 1 the loss differs
    and is one of more tokens."""
    scoring = Scoring(model(), heads=METHOD.heads, targets=METHOD.targets)
    one = tokens(list(range(3, 13)), 6)
    spoken = one.weights.copy()
    spoken[6:8] = 0
    found = []
    for weights in (spoken, one.weights):
        dialogue = Rendered("one", {"text": (replace(one, weights=weights),)}, {"reward": 1.0})
        found.append(Passes(scoring, scoring, pad([dialogue]), METHOD, 1.0).loss())
    assert [len(loss.values) for loss in found] == [4, 6]
    assert found[0].values.sum() != found[1].values.sum()
    after_the_human, v = found[0].metrics["td"][1], found[0].metrics["v"]
    assert after_the_human != found[1].metrics["td"][1]  # it was led to what the human would have said
    q1, q2 = (each[1] for each in heads_of(scoring, pad([dialogue])))
    expected = (0.99 * v[2] - q1) ** 2 + (0.99 * v[2] - q2) ** 2
    torch.testing.assert_close(after_the_human, expected)


@pytest.mark.parametrize("options", [{"discount": 1.1}, {"expectile": 1.0}, {"cql_temperature": 0.0}])
def test_what_is_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ilql: discount"):
        ilql(given([-1.0], reward=[0.0]), **options)
