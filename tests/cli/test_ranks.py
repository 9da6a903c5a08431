"""`torchrun` and `accelerate launch` carry out a recipe as one process would; the main one prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """
title: Together
base: {llama: {layers: 2, hidden: 32, wide: 64}}
forgetting: false
steps:
  - data: {name: {asks: 0.8, held: 0.2}, stages: [{sums: {count: 40, most: 9}}]}
  - train:
      name: policy
      data: asks
      validate_on: held
      trainable: {lora: {rank: 4}}
      fit: &fit {steps: 4, batch: 8, lr: 1e-2, length: 64, row: 64, dtype: float32, evaluate: 2}
  - data: {name: pairs, from: held, stages: [{respond: {by: policy, max_new: 4}}]}
  - train:
      {name: policy, start: policy, data: pairs, objective: spin, train_on: last, trainable: full,
       fit: {<<: *fit, evaluate: 0, shard: true}}
  - evaluate: {model: policy, suite: [heldout: {on: held}]}
"""
ACCELERATE = (
    "accelerate.commands.launch --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
)
TWO = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node", "2"],
    "accelerate": f"{ACCELERATE} --use_fsdp --fsdp_version 2".split(),
}


def carried_out(directory: Path, launcher: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`turnsmith` with these arguments, in a directory with a shelf of its own."""
    directory.mkdir(exist_ok=True)
    (directory / "together.yaml").write_text(RECIPE)
    module = ["-m", *launcher] if launcher else []
    return subprocess.run(
        [sys.executable, "-W", "ignore", *module, "-m", "turnsmith", *arguments], cwd=directory, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TURNSMITH_HOME": str(directory / "home")},
        capture_output=True, timeout=400, check=False,
    )  # fmt: skip


def record_of(directory: Path) -> dict:
    return json.loads((directory / "runs" / "run.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("alone")
    done = carried_out(directory, [], "run", "together.yaml", "--to", "runs")
    assert done.returncode == 0, done.stderr
    (directory / "said").write_text(done.stdout)
    return directory


@pytest.mark.parametrize("launcher", ["torchrun", pytest.param("accelerate", marks=pytest.mark.slow)])
def test_two_processes_carry_out_a_recipe_as_one_does(alone, tmp_path, launcher):
    done = carried_out(tmp_path, TWO[launcher], "run", "together.yaml", "--to", "runs")
    assert done.returncode == 0, done.stderr
    said = [re.sub(r"\d+ s$|\(\d+ s of work\)|/\S*/", "", line) for line in done.stdout.splitlines()]
    before = (alone / "said").read_text().splitlines()
    kept = [line for line in said if "processes" not in line]
    assert kept == [re.sub(r"\d+ s$|\(\d+ s of work\)|/\S*/", "", line) for line in before]
    first = "each with a part of the parameters" if launcher == "accelerate" else "each with all parameters"
    assert [line.strip() for line in said if "processes" in line] == [
        f"on 2 processes, {first}",
        "on 2 processes, each with a part of the parameters",
        "varies  several processes trained together (train policy): the order of their sums is not fixed",
    ]
    one, two = (record_of(place)["steps"] for place in (alone, tmp_path))
    # What came of the training differs in its last bits, and so the hashes of what is made from it.
    assert [step["artefact"] for step in two[:2]] == [step["artefact"] for step in one[:2]]
    assert [step["verb"] for step in two] == [step["verb"] for step in one]
    losses = [
        [json.loads(line)["loss"] for line in (Path(steps[1]["path"]) / "metrics.jsonl").open()]
        for steps in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert [step["computed_on"]["processes"] for step in two if step["verb"] == "train"] == [2, 2]
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == sorted(
        p.name for p in (alone / "runs").iterdir()
    )


def test_what_several_processes_cannot_share_is_refused_before_anything_is_made(tmp_path):
    done = carried_out(tmp_path, TWO["torchrun"], "chat", "policy")
    assert done.returncode == 1
    assert (
        "turnsmith: `chat` is for one process, and WORLD_SIZE says 2: unset it; several carry out `run`"
        in done.stderr
    )
    assert not (tmp_path / "home").exists()


CLAIMED = """
title: Tuning helps
base: {llama: {layers: 2, hidden: 32, wide: 64}}
forgetting: false
steps:
  - data: {name: {asks: 0.8, held: 0.2}, stages: [{sums: {count: 60, most: 9}}]}
  - train: {name: tuned, data: asks, trainable: full, fit: {steps: 6, batch: 4, lr: 1e-2, dtype: float32}}
  - evaluate: {model: tuned, suite: [heldout: {on: held}]}
claim:
  - {task: heldout, quantity: loss, of: tuned, against: base, direction: lower}
control: {steps.1.train.fit.lr: 0}
replicates: 2
"""


@pytest.mark.slow
def test_two_processes_judge_a_claim_and_write_it_once(tmp_path):
    (tmp_path / "claimed.yaml").write_text(CLAIMED)
    done = carried_out(tmp_path, TWO["torchrun"], "claims", "claimed.yaml", "--record", "judged.json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "judged.json").read_text())
    assert (row["verdict"], row["seeds"], row["control"]["figure"]) == ("holds", 2, 0.0)
    assert (
        done.stdout.count("on 2 processes, each with all parameters") == 4
    )  # two seeds, and two of the control


@pytest.mark.slow
def test_two_processes_compare_methods(tmp_path):
    rows = [
        {"role": role, "content": text.format(at)}
        for at in range(60)
        for role, text in (("user", "What is {0} and {0}?"), ("assistant", "It is twice {0}."))
    ]
    chats = [json.dumps({"messages": rows[at : at + 2]}) for at in range(0, len(rows), 2)]
    (tmp_path / "chats.jsonl").write_text("\n".join(chats) + "\n")
    base = {"title": "b", "base": {"llama": {"layers": 2, "hidden": 32, "wide": 64}}, "forgetting": False}
    sums = {"data": {"name": "asks", "stages": [{"sums": {"count": 8, "most": 9}}]}}
    brief = {"train": {"name": "base", "data": "asks", "trainable": "full", "fit": {"steps": 1}}}
    (tmp_path / "base.yaml").write_text(json.dumps({**base, "steps": [sums, brief]}))
    made = carried_out(tmp_path, [], "run", "base.yaml", "--to", "made")
    assert made.returncode == 0, made.stderr
    done = carried_out(
        tmp_path, TWO["torchrun"], "compare", "lora", "full", "--data", "chats.jsonl",
        "--model", "made/base", "--budget", "1000tokens", "--suite", "heldout: {on: held}",
        "--to", "compared",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "compared" / "comparison.json").read_text())
    assert found["failed"] == {}
    assert [one["name"] for one in found["methods"]] == ["lora", "full"]
    assert done.stdout.count("report  ") == 1
