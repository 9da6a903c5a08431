"""A recipe from the command line, on a tiny model: what is made, found again, redone, gone on with."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from turnsmith.cli.main import call

CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"Tell me about the number {n}."},
            {"role": "assistant", "content": f"The number {n} sat on the mat."},
            {"role": "user", "content": "And then?"},
            {"role": "assistant", "content": "It told me a story about the sea."},
        ]
    }
    for n in range(24)
]


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def result(here: Path) -> dict:
    return json.loads((here / "runs" / "mine" / "run.json").read_text())


def test_a_run_leaves_a_report_a_model_and_figures(here, fresh, recipe, rows, capfd):
    assert call(["run", str(recipe(rows(CHATS), evaluate=True))]) == 0
    said = capfd.readouterr().out
    assert "report  runs/mine/report.html" in said
    assert re.search(r"next    \S*turnsmith chat runs/mine/tuned", said)
    found = result(here)
    assert found["state"] == "done"
    train = found["steps"][1]
    assert train["steps"] == 2
    assert train["tokens"] > train["supervised"] > 0
    metrics = [m for task in found["steps"][2]["tasks"] for m in task["metrics"]]
    assert {"loss", "loss without the stop token", "right by likelihood"} <= {m["name"] for m in metrics}
    assert all(m["low"] <= m["difference"] <= m["high"] for m in metrics)
    assert "tuned" in (here / "runs/mine/report.html").read_text()
    assert (here / "runs/mine/tuned/adapter_model.safetensors").is_file()


def test_a_second_call_finds_all_done(here, fresh, recipe, rows, capfd):
    path = str(recipe(rows(CHATS), evaluate=True))
    call(["run", path])
    first = result(here)
    capfd.readouterr()
    assert call(["run", path]) == 0
    assert capfd.readouterr().out.count("(done before)") == 3
    again = result(here)
    assert [step["reused"] for step in again["steps"]] == [True, True, True]
    assert [step["artefact"] for step in again["steps"]] == [step["artefact"] for step in first["steps"]]


def test_a_second_call_does_not_import_torch(here, fresh, recipe, rows):
    path = str(recipe(rows(CHATS), evaluate=True))
    call(["run", path])
    code = f"""if True:
        import sys
        from turnsmith.cli.main import call
        call(['run', {path!r}])
        print('torch' in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_changed_option_redoes_only_what_depends_on_it(here, fresh, recipe, rows):
    path = str(recipe(rows(CHATS), evaluate=True))
    call(["run", path])
    before = result(here)
    assert call(["run", path, "--set", "steps.1.train.fit.lr=1e-3"]) == 0
    after = result(here)
    assert [step["reused"] for step in after["steps"]] == [True, False, False]
    assert all(task["reused"] == {"base": True, "tuned": False} for task in after["steps"][2]["tasks"])
    assert after["steps"][1]["artefact"] != before["steps"][1]["artefact"]


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        ("seed=1", [True, False, False]),
        ("steps.1.train.trainable.lora.rank=3", [True, False, False]),
        ("steps.2.evaluate.suite.1.abilities.every=50", [True, True, False]),
    ],
)
def test_the_seed_and_the_options_of_a_component_make_other_artefacts(
    here, fresh, recipe, rows, change, reused
):
    path = str(recipe(rows(CHATS), evaluate=True))
    call(["run", path])
    assert call(["run", path, "--set", change]) == 0
    assert [step["reused"] for step in result(here)["steps"]] == reused


def test_where_checkpoints_fall_changes_nothing(here, fresh, recipe, rows):
    path = str(recipe(rows(CHATS)))
    call(["run", path])
    assert call(["run", path, "--set", "steps.1.train.fit.checkpoint=1"]) == 0
    assert result(here)["steps"][1]["reused"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_at_a_step_and_the_same_command_goes_on(here, fresh, recipe, rows, number):
    fit = {"steps": 150, "batch": 2, "length": 64, "over": "right", "dtype": "float32", "checkpoint": 60}
    path = str(recipe(rows(CHATS), fit=fit))
    command = [sys.executable, "-m", "turnsmith", "run", path]
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_a_step(fresh, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the same command goes on" in said
    (partial,) = (fresh / "shelf").glob("*.partial")
    stopped_at = len((partial / "metrics.jsonl").read_text().splitlines())
    assert 0 < stopped_at < 150
    assert call(["run", path]) == 0
    model = Path(result(here)["steps"][1]["path"])
    steps = [json.loads(line)["step"] for line in (model / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 151))
    uninterrupted = weights(path, here, fresh.with_name("other"))
    assert (model / "model" / "adapter_model.safetensors").read_bytes() == uninterrupted


def wait_for_a_step(home: Path, process: subprocess.Popen) -> None:
    for _ in range(1200):
        found = [
            file for file in (home / "shelf").glob("*.partial/metrics.jsonl") if file.stat().st_size > 400
        ]
        if found:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("no step within two minutes")


def weights(path: str, here: Path, home: Path) -> bytes:
    environment = {**os.environ, "TURNSMITH_HOME": str(home)}
    command = [sys.executable, "-m", "turnsmith", "run", path, "--to", "other"]
    subprocess.run(command, cwd=here, check=True, capture_output=True, env=environment)
    return (here / "other" / "tuned" / "adapter_model.safetensors").read_bytes()


def test_seeds_and_grids_become_arms(here, fresh, recipe, rows, tmp_path):
    plain = json.loads(recipe(rows(CHATS)).read_text())
    plain |= {"seeds": [0, 1], "each": {"steps.1.train.fit.lr": [1e-3, 2e-3]}}
    path = tmp_path / "grid.yaml"
    path.write_text(json.dumps(plain))
    assert call(["run", str(path)]) == 0
    names = {file.parent.name for file in (here / "runs" / "grid").glob("*/run.json")}
    assert names == {f"lr={lr},seed={seed}" for lr in (0.001, 0.002) for seed in (0, 1)}


def test_repeat_makes_new_versions_that_start_from_the_newest(here, fresh, recipe, rows, tmp_path):
    plain = json.loads(recipe(rows(CHATS)).read_text())
    first = plain["steps"][1]
    second = {"train": {**first["train"], "start": "tuned"}}
    plain["steps"] = [plain["steps"][0], first, {"repeat": {"times": 2, "steps": [second]}}]
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(plain))
    assert call(["run", str(path)]) == 0
    trained = [step for step in result(here)["steps"] if step["verb"] == "train"]
    assert len({step["artefact"] for step in trained}) == 3
    assert trained[2]["start"] == str(Path(trained[1]["path"]) / "model")


def test_preference_pairs_train_with_a_precomputed_and_a_live_reference_alike(here, fresh, recipe, rows):
    pairs = [
        {
            "prompt": f"What is {n}?",
            "chosen": "It is a number, thank you.",
            "rejected": f"The dog slept {n} times.",
        }
        for n in range(8)
    ]
    losses = []
    for reference in ("precomputed", "live"):
        fit = {"steps": 3, "batch": 2, "length": 64, "dtype": "float32", "lr": 1e-2, "reference": reference}
        assert call(["run", str(recipe(rows(pairs), objective="dpo", fit=fit))]) == 0
        metrics = (Path(result(here)["steps"][1]["path"]) / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in metrics])
    assert losses[0][0] == pytest.approx(0.6931472, abs=1e-6)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_frozen_lowest_blocks_give_is_computed_once_and_learns_the_same(
    here, fresh, recipe, rows, capfd
):
    """Under activation checkpointing too, which must not ask for gradients below."""
    losses = []
    targets = ["layers.1.self_attn.q_proj", "layers.1.mlp.down_proj"]
    fit = {"epochs": 2, "batch": 8, "length": 128, "dtype": "float32", "lr": 1e-2}
    for cache, again in (("never", False), ("auto", False), ("auto", True)):
        changes = {"cache": cache, "gradient_checkpointing": again}
        trainable = {"lora": {"rank": 2, "targets": targets}}
        assert call(["run", str(recipe(rows(CHATS), trainable=trainable, fit={**fit, **changes}))]) == 0
        line = "the lowest blocks (1 of 2) are frozen: what they give is computed once and kept"
        assert (line in capfd.readouterr().out) == (cache == "auto")
        made = Path(result(here)["steps"][1]["path"])
        losses.append([json.loads(row)["loss"] for row in (made / "metrics.jsonl").read_text().splitlines()])
        assert not list(made.glob("*.npy"))
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert losses[2] == pytest.approx(losses[0], abs=1e-5)


def test_a_model_tuned_to_babble_shows_as_forgetting(here, fresh, recipe, rows, tmp_path):
    plain = json.loads(recipe(rows(CHATS)).read_text())
    plain["steps"].append(
        {"evaluate": {"model": "tuned", "suite": ["divergence", {"stopping": {"count": 12}}]}}
    )
    plain["each"] = {"steps.1.train.fit.lr": [2e-4, 2e-2]}
    plain["steps"][1]["train"]["fit"]["steps"] = 8
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps(plain))
    assert call(["run", str(path)]) == 0
    drift = {}
    for lr in (2e-4, 2e-2):
        run = json.loads((here / "runs" / "mine" / f"lr={lr}" / "run.json").read_text())
        (metric,) = [m for task in run["steps"][-1]["tasks"] for m in task["metrics"] if "KL" in m["name"]]
        drift[lr] = metric
    assert drift[2e-2]["verdict"] == "worse"
    assert drift[2e-2]["low"] > 10 * drift[2e-4]["high"]


def test_a_task_that_asks_for_another_one_is_measured_anew_when_that_one_changes(here, fresh, recipe, rows):
    plain = json.loads(recipe(rows(CHATS)).read_text())
    path = here.parent / "mine.yaml"
    for count in (6, 4):
        suite = [{"stopping": {"count": count}}, "divergence"]
        steps = [*plain["steps"][:2], {"evaluate": {"model": "tuned", "suite": suite}}]
        path.write_text(json.dumps({**plain, "steps": steps}))
        assert call(["run", str(path)]) == 0
        divergence = result(here)["steps"][2]["tasks"][1]
        assert [metric["n"] for metric in divergence["metrics"]] == [count]


def test_json_alone_on_stdout(here, fresh, recipe, rows, capfd):
    assert call(["run", str(recipe(rows(CHATS))), "--json"]) == 0
    (found,) = json.loads(capfd.readouterr().out)
    assert found["state"] == "done"


def test_check_shows_masks_and_estimates_and_leaves_nothing(here, fresh, recipe, rows, capfd):
    assert call(["check", str(recipe(rows(CHATS)))]) == 0
    said = capfd.readouterr().out
    assert "rank: 2" in said
    assert "weight_decay: 0.0" in said
    assert "story about the sea" in said
    assert "24 examples; nothing cut or dropped" in said
    assert list(here.iterdir()) == []


def test_chat_with_two_models_says_what_each_says(here, fresh, recipe, rows, tiny, capfd):
    call(["run", str(recipe(rows(CHATS)))])
    capfd.readouterr()
    models = ["runs/mine/tuned", str(tiny)]
    assert call(["chat", *models, "--say", "Hello there", "--say", "And?", "--max-new", "8", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert [row["model"] for row in found] == models
    assert [m["role"] for m in found[0]["messages"]] == ["user", "assistant"] * 2


def test_chat_says_the_same_with_guesses_and_goes_on_where_the_context_ends(here, tiny, capfd):
    # 24 turns of about 40 tokens each: more than the model's context has room for.
    said = [word for _ in range(24) for word in ("--say", "How are you today, and what do you like?")]
    given = ["chat", str(tiny), *said, "--max-new", "12", "--json", "--over", "oldest"]
    found = []
    for draft in ([], ["--draft", "prompt"], ["--draft", str(tiny)]):
        assert call([*given, *draft]) == 0
        found.append(json.loads(capfd.readouterr().out))
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]["messages"]) == 48
    assert call(given[:-2]) != 0
    assert "the model's context ends at" in capfd.readouterr().err


@pytest.mark.parametrize("given", [("--draft", "prompt"), ("--weights", "float16")])
def test_chat_guesses_and_rounds_for_no_server(here, capfd, given):
    assert call(["chat", "http://127.0.0.1:9/v1#m", *given, "--say", "Hello"]) == 2
    assert "is not loaded here: it takes no draft and no weights" in capfd.readouterr().err


def test_tune_chooses_explains_and_goes_on_with_an_adapter(here, fresh, rows, tiny, capfd):
    data = str(rows(CHATS))
    quick = ["--steps", "4", "--set", "steps.2.evaluate.suite=[{heldout: {on: heldout}}]"]
    assert call(["tune", str(tiny), data, *quick]) == 0
    said = capfd.readouterr().out
    assert "chosen  fit.lr = 0.0005: lora on a small model" in said
    assert "chosen  rank = 16" in said
    tuned = "runs/tuned-on-data/tuned"
    assert call(["tune", tuned, data, "--name", "further", *quick]) == 0
    assert "the adapter to go on with has it" in capfd.readouterr().out
    record = json.loads((here / "runs/further-on-data/run.json").read_text())
    assert record["base"]["reference"] == tuned
    assert record["steps"][1]["best_step"] is not None


def test_a_tracker_gets_the_curves(here, fresh, recipe, rows):
    fit = {"steps": 2, "batch": 2, "length": 128, "dtype": "float32", "trackers": ["tensorboard"]}
    assert call(["run", str(recipe(rows(CHATS), fit=fit))]) == 0
    assert list((here / "runs" / "mine").rglob("events.out.tfevents*"))


def test_python_runs_a_recipe_too(here, fresh, recipe, rows):
    import turnsmith

    (found,) = turnsmith.run(recipe(rows(CHATS)), settings={"steps.1.train.fit.steps": 1})
    assert found["steps"][1]["steps"] == 1
    assert (here / "runs" / "mine" / "report.html").is_file()


@pytest.mark.slow
def test_the_real_model_tuned_to_babble_shows_in_every_measure_of_forgetting(here, recipe):
    suite = [{"stopping": {"count": 24}}, "divergence", {"abilities": {"every": 3}}]
    plain = {
        "title": "Babble",
        "base": "smollm2-135m-instruct",
        "steps": [
            {"data": {"name": "chats", "read": "chitchat", "stages": [{"turns": {"least": 4}}]}},
            {
                "train": {
                    "name": "tuned",
                    "data": "chats",
                    "fit": {"steps": 6, "batch": 2, "length": 256, "over": "right", "lr": 0.1},
                }
            },
            {"evaluate": {"model": "tuned", "suite": suite}},
        ],
    }
    path = here / "babble.yaml"
    path.write_text(json.dumps(plain))
    assert call(["run", str(path)]) == 0
    run = json.loads((here / "runs" / "babble" / "run.json").read_text())
    metrics = {m["name"]: m for task in run["steps"][-1]["tasks"] for m in task["metrics"]}
    assert metrics["KL from the start model"]["low"] > 2
    assert metrics["right by likelihood"]["verdict"] == "worse"
    assert metrics["right by generation"]["verdict"] == "worse"
