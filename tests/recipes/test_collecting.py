"""A model that learns from what it draws while it learns."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import turnsmith
from turnsmith.errors import StorageError, UsageError
from turnsmith.recipes import collecting, components, schema
from turnsmith.recipes.checking import check
from turnsmith.train.rounds import Rounds

OWN = '''
from pathlib import Path

import torch

from turnsmith.registry import objective, stage
from turnsmith.types import Chat, Example, Loss, Sampling, Scores


@stage("drawn", chats=("by",))
def drawn(data, *, by: Chat, max_new: int = 3, rng, counts):
    """A reply for each prompt; each call leaves a line."""
    replies = by([one.parts["text"].upto(1) for one in data], sampling=Sampling(max_new=max_new))
    said = [reply.message.content for reply in replies]
    with Path("calls.txt").open("a") as opened:
        opened.write(repr(([one.id for one in data], said, rng.random())) + "\\n")
    counts["replies of an even length"] += sum(len(text) % 2 == 0 for text in said)
    for one, reply in zip(data, replies, strict=True):
        value = float(len(set(reply.message.content)))
        yield Example({"text": one.parts["text"].upto(1).then(reply.message)}, {"reward": value}, one.meta)


@objective("lifted", per="example", source="mine")
def lifted(s: Scores) -> Loss:
    """REINFORCE with the reward as it is."""
    return Loss(-s.values["reward"] * s.sums("text"))


@objective("credited", per="token", reference=True, heads={"value": 1}, values=("reward",),
           extras=("old", "scaled"), source="mine")
class Credited:
    """The log-ratio to the start of the round, times what credit says."""

    def __init__(self, *, scale: float = 2.0) -> None:
        self.scale = scale

    def credit(self, scores):
        assert not torch.is_grad_enabled()
        total = sum(float(s.values["reward"].sum()) for s in scores)
        scaled = [self.scale * total + s.reference - s.logprobs + 0 * s.heads["value"] for s in scores]
        return [{"old": s.logprobs, "scaled": one} for s, one in zip(scores, scaled)]

    def __call__(self, s: Scores) -> Loss:
        ratio = (s.logprobs - s.extras["old"]).exp()
        metrics = {"ratio": ratio, "scaled": s.extras["scaled"], "moved": s.logprobs - s.reference}
        return Loss(-ratio * s.extras["scaled"] + 0 * s.heads["value"], metrics)
'''
PROMPTS = ["ab", "cd", "ef", "gh", "ij"]


def plain(objective="lifted", *, steps=6, collect=None, **train):
    fit = {"steps": steps, "batch": 2, "length": 64, "dtype": "float32", "lr": 1e-2, "checkpoint": 2}
    step = {
        "name": "policy",
        "data": "prompts",
        "objective": objective,
        "trainable": "full",
        "collect": collect or {"stages": [{"drawn": {"by": "policy"}}], "examples": 2, "epochs": 2},
        "fit": fit | train.pop("fit", {}),
    }
    return {
        "title": "drawn",
        "base": {"markov": {"hidden": 16}},
        "forgetting": False,
        "steps": [{"data": {"name": "prompts", "read": "rows.jsonl"}}, {"train": {**step, **train}}],
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    (tmp_path / "own.py").write_text(OWN)
    rows = [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "x"}]}
        for text in PROMPTS
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


def go(given):
    (found,) = turnsmith.run(given, name="drawn", use=["own.py"])
    return found["steps"][-1]


def weights(record):
    return load_file(Path(record["path"]) / "model" / "model.safetensors")


def metrics(record):
    return [json.loads(line) for line in (Path(record["path"]) / "metrics.jsonl").open()]


def calls():
    return [eval(line) for line in Path("calls.txt").read_text().splitlines()]


def killed(given, monkeypatch, *, before):
    """Run until all is there for step `before`, which does not begin any more."""
    reach = Rounds.reach

    def reached(self, step):
        figures = reach(self, step)
        if step == before:
            raise RuntimeError("killed")
        return figures

    with monkeypatch.context() as patch:
        patch.setattr(Rounds, "reach", reached)
        with pytest.raises(RuntimeError, match="killed"):
            go(given)


def alike(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def test_each_round_draws_anew_from_the_model_as_it_is_for_the_next_prompts(here):
    record = go(plain())
    rounds = calls()
    # A round of 2 examples, seen twice in windows of 2, is two steps; six steps are three rounds.
    assert len(rounds) == 3
    ids = [id for names, _, _ in rounds for id in names]
    assert len(set(ids[:5])) == 5  # all prompts once before the first one comes again
    assert len({drawn for _, _, drawn in rounds}) == 3
    assert record["steps"] == 6


def test_what_was_drawn_is_counted(here):
    record = go(plain())
    written = sum(len(text) for _, said, _ in calls() for text in said)
    assert 0 < record["usage"]["completion"] >= written  # bytes, and the tokens that end turns
    assert record["usage"]["prompt"] == 6 * len("<>user\nab<>\n<>assistant\n".replace("<>", "."))
    size = sum(value.numel() for value in weights(record).values())
    assert record["collecting_flops"] == 2.0 * size * sum(record["usage"].values())
    assert record["collecting_seconds"] > 0
    even = sum(len(text) % 2 == 0 for _, said, _ in calls() for text in said)
    assert sum(n for reason, n in record["counts"].items() if "even length" in reason) == even


def test_with_a_learning_rate_of_zero_nothing_changes(here):
    record = go(plain(fit={"lr": 0.0}))
    start = load_file(Path(record["start"]) / "model.safetensors")
    assert alike(weights(record), start)


@pytest.mark.parametrize("objective", ["lifted", "credited"])
def test_a_run_killed_between_a_round_and_its_first_step_goes_on_without_collecting_again(
    here, monkeypatch, objective
):
    given = plain(objective, fit={"reference": "live"})
    whole = go(given)
    expected, uninterrupted = calls(), weights(whole)
    Path("calls.txt").unlink()
    monkeypatch.setenv("TURNSMITH_HOME", str(here / "other"))
    killed(given, monkeypatch, before=2)  # the second round is there, and nothing was learnt from it
    assert len(calls()) == 2
    again = go(given)
    assert calls() == expected
    assert alike(weights(again), uninterrupted)
    unclocked = [{**row, "seconds": 0} for row in metrics(again)]
    assert unclocked == [{**row, "seconds": 0} for row in metrics(whole)]
    assert again["usage"] == whole["usage"]


def test_a_run_killed_within_a_round_goes_on_from_the_checkpoint_before(here, monkeypatch):
    given = plain(fit={"checkpoint": 3})
    uninterrupted, expected = weights(go(given)), calls()
    Path("calls.txt").unlink()
    monkeypatch.setenv("TURNSMITH_HOME", str(here / "other"))
    killed(
        given, monkeypatch, before=5
    )  # in the third round; the last checkpoint, of step 3, is in the second
    assert alike(weights(go(given)), uninterrupted)
    assert calls() == expected


def test_a_round_that_is_gone_is_not_made_by_another_model(here, monkeypatch):
    killed(plain(), monkeypatch, before=5)
    (first,) = (here / "home" / "shelf").glob("*.partial/rounds/00000")
    first.rename(first.with_name("moved"))
    with pytest.raises(StorageError, match="00000 is gone, and the run has learnt from it"):
        go(plain())


def test_credit_is_asked_once_a_round_at_its_start_and_stays_with_the_tokens(here):
    record = go(plain("credited", fit={"reference": "live"}, steps=4))
    first, second, third, _ = metrics(record)
    assert first["ratio"] == pytest.approx(1, abs=1e-6)  # the model is still that of the round's start
    assert first["moved"] == pytest.approx(0, abs=1e-6)  # and that of the step's
    assert second["scaled"] == pytest.approx(first["scaled"])
    assert abs(second["ratio"] - 1) > 1e-4
    assert third["ratio"] == pytest.approx(1, abs=1e-6)
    assert abs(third["moved"]) > 1e-4
    rewards = sum(len(set(text)) for text in calls()[0][1])
    assert first["scaled"] == pytest.approx(2.0 * rewards, abs=1e-4)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (plain("credited"), "has no reference before it: set fit.reference to live"),
        (plain(fit={"steps": None, "epochs": 2}), "how many epochs there are .* set fit.steps"),
        (plain("credited", collect=False), "learns from what the model draws .* in `collect`"),
        (
            plain("credited", validate_on="prompts", fit={"reference": "live"}),
            "cannot be computed of validation data",
        ),
        (
            plain(collect={"stages": [{"drawn": {"by": "polcy"}}], "examples": 2}),
            "no model is called 'polcy' before this step",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(here, given, said):
    train = given["steps"][1]["train"]
    if "in `collect`" in said:
        del train["collect"]
    with pytest.raises(UsageError, match=said):
        schema.arms(given, "mine.yaml", components(["own.py"]))


def test_a_check_says_that_the_step_waits_for_its_own_draws(here):
    (found,) = check(plain(), use=["own.py"])["train"]
    assert found == {"name": "policy", "waits": "it draws what it learns from while it learns"}
    assert not Path("calls.txt").exists()


def test_several_processes_are_refused(here, monkeypatch):
    monkeypatch.setattr(collecting, "ranks", SimpleNamespace(world=lambda: 2))
    with pytest.raises(UsageError, match="one process only"):
        go(plain())


def test_the_name_of_an_earlier_version_means_the_model_that_learns(here):
    given = plain(steps=2)
    second = json.loads(json.dumps(given["steps"][1]))
    second["train"]["start"] = "policy"
    given["steps"].append(second)
    record = go(given)
    assert record["start"].endswith("/model")
    assert len(calls()) == 2
    assert calls()[0] != calls()[1]
