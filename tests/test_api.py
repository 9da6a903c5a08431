"""From Python, from a recipe file and from the command line the same artefacts are made."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import turnsmith
from turnsmith.cli.main import call
from turnsmith.testing import conversations, directory, jsonl

FIT = {"steps": 2, "batch": 2, "length": 128, "dtype": "float32"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with nothing but data, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    jsonl(tmp_path / "chats.jsonl", conversations(16))
    return tmp_path


@pytest.fixture
def content(tiny: Path) -> dict[str, Any]:
    """A recipe with a split, two trainings, an evaluation and a claim."""
    train = {"data": "train", "trainable": {"lora": {"rank": 2}}, "fit": FIT}
    steps = [
        {"data": {"name": {"train": 0.75, "heldout": 0.25}, "read": "chats.jsonl", "seed": 3}},
        {"data": {"name": "few", "from": "train", "stages": [{"head": {"count": 4}}]}},
        {"train": {"name": "tuned", **train}},
        {
            "repeat": {
                "times": 2,
                "steps": [{"train": {**train, "name": "tuned", "start": "tuned", "data": "few"}}],
            }
        },
        {
            "evaluate": {
                "model": "tuned",
                "suite": [{"heldout": {"on": "heldout"}}, {"abilities": {"every": 80}}],
            }
        },
    ]
    claim = {"task": "heldout", "quantity": "loss", "of": "tuned", "direction": "lower", "by": 0.1}
    head = {"title": "Mine", "base": str(tiny), "seed": 5, "forgetting": False}
    return {**head, "steps": steps, "claim": [claim]}


@pytest.fixture
def file(here: Path, content: dict[str, Any]) -> Path:
    path = here / "mine.yaml"
    path.write_text(json.dumps(content))
    return path


def step_by_step(tiny: Path) -> dict[str, Any]:
    """The same recipe, verb by verb."""
    train = {"trainable": {"lora": {"rank": 2}}, "fit": FIT}
    with turnsmith.Steps(tiny, name="mine", title="Mine", seed=5, forgetting=False, to="python") as go:
        go.data({"train": 0.75, "heldout": 0.25}, read=Path("chats.jsonl"), seed=3)
        go.data("few", given="train", stages=[{"head": {"count": 4}}])
        go.train("tuned", data="train", **train)
        for _ in range(2):
            go.train("tuned", start="tuned", data="few", **train)
        go.evaluate("tuned", suite=[{"heldout": {"on": "heldout"}}, {"abilities": {"every": 80}}])
        go.claim("heldout", quantity="loss", of="tuned", direction="lower", by=0.1)
    return left(Path("python"))


def left(directory: Path) -> dict[str, Any]:
    """What a run left in its directory."""
    return json.loads((directory / "run.json").read_text())


def made(run: dict[str, Any]) -> list[str]:
    return [step["artefact"] for step in run["steps"]]


def reused(run: dict[str, Any]) -> set[bool]:
    return {step["reused"] for step in run["steps"]}


def test_a_file_the_verbs_and_the_command_line_make_the_same_artefacts(here, tiny, file):
    (first,) = turnsmith.run(file, to="first")
    assert reused(first) == {False}
    verbs = step_by_step(tiny)
    command = [sys.executable, "-m", "turnsmith", "run", str(file), "--to", "third", "--json"]
    (third,) = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert made(first) == made(verbs) == made(third)
    assert len(set(made(first))) == 6
    assert reused(verbs) == reused(third) == {True}
    assert first["claim"] == verbs["claim"] == third["claim"]
    models = [here / name / "tuned" / "adapter_model.safetensors" for name in ("first", "python", "third")]
    assert len({model.read_bytes() for model in models}) == 1


def test_the_other_way_round_too(tiny, file):
    verbs = step_by_step(tiny)
    assert reused(verbs) == {False}
    assert call(["run", str(file)]) == 0
    assert made(left(Path("runs/mine"))) == made(verbs)
    assert reused(left(Path("runs/mine"))) == {True}


def test_a_recipe_printed_as_python_makes_its_artefacts(here, file, capfd):
    (first,) = turnsmith.run(file, to="first")
    assert call(["show", str(file), "--python"]) == 0
    (here / "mine.py").write_text(capfd.readouterr().out)
    subprocess.run([sys.executable, "mine.py"], check=True)
    again = left(here / "runs" / "mine")
    assert made(again) == made(first)
    assert reused(again) == {True}
    assert (again["title"], again["seed"], again["claim"]) == ("Mine", 5, first["claim"])


def test_forgetting_is_measured_unless_it_is_declined(tiny, content):
    content = {key: value for key, value in content.items() if key not in ("forgetting", "claim")}
    content["steps"] = content["steps"][:1] + content["steps"][2:3]
    (first,) = turnsmith.run(content, name="mine", to="first")
    go = turnsmith.Steps(tiny, name="mine", seed=5)
    go.data({"train": 0.75, "heldout": 0.25}, read="chats.jsonl", seed=3)
    go.train("tuned", data="train", trainable={"lora": {"rank": 2}}, fit=FIT)
    second = go.finish()
    assert [step["verb"] for step in second["steps"]] == ["data", "train", "evaluate"]
    assert made(second) == made(first)
    assert "abilities" in Path("runs/mine/recipe.yaml").read_text()


def test_tune_is_the_command_tune(tiny, capfd):
    said: list[str] = []
    small = {"steps.2.evaluate.suite": [{"heldout": {"on": "heldout"}}]}
    (first,) = turnsmith.tune(
        tiny, "chats.jsonl", steps=2, lr=1e-3, settings={**small, "forgetting": False}, say=said.append
    )
    assert "chosen  rank = 16: 14 examples do not need more" in said
    assert not any("fit.lr" in line for line in said)  # it was given
    options = ["--steps", "2", "--lr", "1e-3", "--set", "forgetting=false", "--json"]
    suite = "steps.2.evaluate.suite=[{heldout: {on: heldout}}]"
    assert call(["tune", str(tiny), "chats.jsonl", *options, "--set", suite]) == 0
    (second,) = json.loads(capfd.readouterr().out)
    assert (second["recipe"], made(second), reused(second)) == ("tuned-on-chats", made(first), {True})


def test_evaluate_is_the_command_evaluate(here, tiny, capfd):
    other = directory(here / "other", seed=1)
    (first,) = turnsmith.evaluate(other, against=tiny, suite=["heldout"], data="chats.jsonl")
    assert [step["verb"] for step in first["steps"]] == ["data", "evaluate"]
    arguments = [str(other), "--against", str(tiny), "--suite", "heldout", "--data", "chats.jsonl", "--json"]
    assert call(["evaluate", *arguments]) == 0
    (second,) = json.loads(capfd.readouterr().out)
    assert (made(second), reused(second)) == (made(first), {True})
    metrics = first["steps"][1]["tasks"][0]["metrics"]
    assert {metric["n"] for metric in metrics} == {16}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (
            lambda: turnsmith.check("mine.yaml", settings={"seed": 1}),
            ["check", "mine.yaml", "--set", "seed=1"],
        ),
        (lambda: turnsmith.describe("chats.jsonl"), ["data", "chats.jsonl"]),
    ],
)
def test_what_is_looked_at_is_what_the_command_line_prints(file, capfd, function, arguments):
    found = function()
    assert call([*arguments, "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    for train in (*found.get("train", ()), *told.get("train", ())):
        assert train.pop("minutes") > 0  # measured anew each time, as is what this process holds
        assert train.pop("memory_gib") > 0
    assert told == json.loads(json.dumps(found))


def test_check_gives_masks_and_estimates_and_leaves_nothing(here, file):
    before = sorted(here.iterdir())
    found = turnsmith.check(file, settings={"steps.2.train.fit.steps": 3})
    assert sorted(set(here.iterdir()) - {here / "home"}) == before
    assert "weight_decay: 0.0" in found["resolved"]
    train, again = found["train"]
    assert (train["name"], train["examples"], train["steps"], again["examples"]) == ("tuned", 12, 3, 4)
    (chosen,) = {tuple(token) for example in train["shown"][:1] for token in example["tokens"]}
    assert chosen == ("text", "weight")
    learnt = "".join(token["text"] for token in train["shown"][0]["tokens"] if token["weight"])
    assert learnt.count("<|im_end|>") == 2
    assert "Tell me" not in learnt


def test_a_chat_answers_and_a_talk_remembers(tiny):
    chat = turnsmith.chat(tiny, sampling=turnsmith.Sampling(temperature=0.7, max_new=6))
    talk = turnsmith.Talk(chat, seed=1)
    first, second = talk.say("Hello there"), talk.say("And you?")
    assert [message.role for message in talk.said.messages] == ["user", "assistant"] * 2
    assert [message.content for message in talk.said.messages][1::2] == [first, second]
    (reply,) = chat([talk.said.upto(-1)], seed=1)
    assert reply.message.content == second
    talk.reset("Be kind.")
    assert [message.role for message in talk.said.messages] == ["system"]


def test_export_is_the_command_export(here, tiny):
    turnsmith.export(tiny, here / "one", form="gguf", quantise="f32")
    assert call(["export", str(tiny), "--to", "gguf", "--out", "two", "--quantise", "f32"]) == 0
    files = [sorted(Path(name).glob("*.gguf")) for name in ("one", "two")]
    assert [len(ones) for ones in files] == [1, 1]
    assert files[0][0].read_bytes() == files[1][0].read_bytes()


def test_a_mapping_that_is_run_is_left_as_it_was(content):
    before = json.dumps(content)
    with pytest.raises(turnsmith.TurnsmithError):
        turnsmith.run(content, settings={"steps.0.data.read": "nowhere.jsonl"})
    assert json.dumps(content) == before


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, turnsmith; print(sorted({'torch', 'pydantic', 'numpy', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_can_be_called_and_no_package_hides_it():
    names = set(dir(turnsmith))
    verbs = {"run", "tune", "check", "claims", "describe", "chat", "evaluate", "export"}
    assert verbs | {"Steps", "Talk", "objective", "stage", "trainable", "merge", "task", "format"} <= names
    assert [name for name in names if not callable(getattr(turnsmith, name))] == []
    assert names & {module.name for module in pkgutil.iter_modules(turnsmith.__path__)} == set()


def test_describe_shows_calls(here):
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    said = [{"role": "user", "content": "1?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (here / "calls.jsonl").write_text(json.dumps({"messages": said}) + "\n")
    assert turnsmith.describe("calls.jsonl")["first"]["text"][1]["content"] == 'add({"a": 1})'
