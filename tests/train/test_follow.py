"""Copies of heads follow them over the steps of a run, learn nothing, and go on where they stood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.stream import Stream
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.testing import Figures, examples, method, model
from turnsmith.train.loop import fit
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.types import Rendered

DATA = [replace(example, values={"reward": float(number % 2)}) for number, example in enumerate(examples(6))]


def run(
    directory: Path,
    *,
    rate: float = 0.5,
    steps: int = 4,
    stop: int | None = None,
    data: list[Rendered] = DATA,
) -> Scoring:
    """What some steps of implicit Q-learning left, from a checkpoint in the directory if there is one."""
    learnt = method("ilql", {"follow": rate})
    whole = model()
    forest.attach(whole)
    scoring = Scoring(whole, heads=learnt.heads, targets=learnt.targets)
    batch = min(3, len(data))
    options = Fit(steps=steps, batch=batch, lr=1e-2, schedule="constant", warmup=0.0, checkpoint=1)
    stream = Stream(data, batch=batch, order="given", seed=0)
    fit(
        scoring, stream, learnt, options, directory=directory, recorder=Figures(stop),
        place=Place(device="cpu"), seed=0, layout=pack,
    )  # fmt: skip
    return scoring


def head(scoring: Scoring, name: str) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in scoring.heads[name].parameters()])


def test_a_copy_goes_its_share_of_the_way_after_each_step(tmp_path: Path) -> None:
    """From c0 = q0, two steps later: c2 = (c0 + q1) / 4 + q2 / 2."""
    learnt = method("ilql")
    began = head(Scoring(model(), heads=learnt.heads, targets=learnt.targets), "q1")
    one, two = (head(run(tmp_path / f"{steps}", steps=steps), "q1") for steps in (1, 2))
    assert not torch.equal(one, began)
    torch.testing.assert_close(
        head(run(tmp_path / "again", steps=2), "q1_target"), (began + one) / 4 + two / 2, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("name", ["q1", "q2"])
def test_at_rate_1_a_copy_is_its_head_and_at_rate_0_what_it_was(tmp_path: Path, name: str) -> None:
    """Card: target update rate 1 copies, rate 0 never changes."""
    began = head(Scoring(model(), heads=method("ilql").heads), name)
    same, still = run(tmp_path / "same", rate=1.0), run(tmp_path / "still", rate=0.0)
    assert torch.equal(head(same, f"{name}_target"), head(same, name))
    assert torch.equal(head(still, f"{name}_target"), began)
    assert not torch.equal(head(still, name), began)


def test_a_run_that_was_stopped_goes_on_with_its_copies_to_the_same_bits(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "parts", stop=2)
    parts = run(tmp_path / "parts")
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_a_dialogue_without_an_action_in_a_window_changes_nothing(tmp_path: Path) -> None:
    """Card: zero action tokens give no nan; the loss is divided by the actions there are."""
    (mute,) = DATA[0].parts["text"]
    silent = replace(DATA[0], parts={"text": (replace(mute, weights=0 * mute.weights),)})
    with_it = run(tmp_path / "with", steps=1, data=[silent, *DATA[1:3]])
    without = run(tmp_path / "without", steps=1, data=DATA[1:3])
    assert all(value.isfinite().all() for value in with_it.state_dict().values())
    torch.testing.assert_close(head(with_it, "q1"), head(without, "q1"), rtol=0, atol=1e-5)
