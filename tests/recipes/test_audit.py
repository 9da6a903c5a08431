"""The seven stages of a finished run: what is found of each when it is looked at again."""

import json
import shutil
from pathlib import Path

import pytest

import turnsmith
from turnsmith.cli.main import call
from turnsmith.errors import UsageError
from turnsmith.recipes.audit import audit
from turnsmith.recipes.audit_data import prompt
from turnsmith.recipes.start import export
from turnsmith.testing import chat, conversations, directory, jsonl
from turnsmith.types import Example

FIT = {"steps": 2, "batch": 2, "length": 128, "dtype": "float32"}
STEPS = [
    {"data": {"name": {"train": 0.8, "test": 0.2}, "read": "chats.jsonl"}},
    {"train": {"name": "tuned", "data": "train", "trainable": {"lora": {"rank": 2}}, "fit": FIT}},
    {"evaluate": {"model": "tuned", "suite": [{"heldout": {"on": "test"}}]}},
]


def carried_out(place):
    jsonl(place / "chats.jsonl", conversations(20))
    recipe = {"title": "Mine", "base": str(place / "model"), "forgetting": False, "steps": STEPS}
    turnsmith.run(recipe, name="mine")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A place with a run that came to its end, and its shelf."""
    place = tmp_path_factory.mktemp("whole")
    directory(place / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TURNSMITH_HOME", str(place / "home"))
        carried_out(place)
        yield place


@pytest.fixture
def run(whole, monkeypatch):
    """Stands where the run is; what a test changes is put back."""
    kept = whole.with_name("kept")
    shutil.copytree(whole, kept, symlinks=True)
    monkeypatch.chdir(whole)
    monkeypatch.setenv("TURNSMITH_HOME", str(whole / "home"))
    yield Path("runs/mine")
    monkeypatch.chdir(whole.parent)
    shutil.rmtree(whole)
    kept.rename(whole)


def states(run):
    return [stage["state"] for stage in audit(run)["stages"]]


def failures(run, number):
    stage = audit(run)["stages"][number - 1]
    return [f"{check['what']}: {check['said']}" for check in stage["checks"] if check["passed"] is False]


def record(run):
    return json.loads((run / "run.json").read_text())


def change(run, act):
    found = record(run)
    act(found)
    (run / "run.json").write_text(json.dumps(found))


def test_a_run_that_is_as_it_was_passes_in_all_that_it_did(run):
    assert states(run) == ["pass"] * 5 + ["not done"] * 2
    assert [stage["number"] for stage in audit(run)["stages"]] == [1, 2, 3, 4, 5, 6, 7]
    assert audit(run)["state"] == "pass"


def test_hashes_go_from_one_stage_into_the_next(run):
    data, _, _, tuned, evaluated, *_ = audit(run)["stages"]
    key = record(run)["steps"][0]["artefact"]
    assert tuned["inputs"]["tuned: train"] == [key]
    assert evaluated["inputs"]["tuned against base: test"] == [key]
    assert f"{key}/train" in data["inputs"]


def test_a_record_that_changes_in_the_source_fails_the_data_and_all_that_rests_on_them(run):
    text = Path("chats.jsonl").read_text()
    Path("chats.jsonl").write_text(text.replace("number 3.", "number three.", 1))
    assert states(run) == ["fail", "pass", "pass", "fail", "fail", "not done", "not done"]
    assert "chats.jsonl is as it was read: it has changed since" in failures(run, 1)[0]
    assert "stage 1, which it rests on, holds" in failures(run, 5)[0]


def test_a_record_that_changes_on_the_shelf_fails(run):
    file = Path(record(run)["steps"][0]["path"]) / "train.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"content": "', b'"content": "!', 1))
    assert "the examples of train are those that were written" in failures(run, 1)[0]
    assert states(run)[3:5] == ["fail", "fail"]


def test_data_that_are_gone_fail(run):
    (Path(record(run)["steps"][0]["path"]) / "test.jsonl").unlink()
    assert "test.jsonl is gone: run the recipe again" in failures(run, 1)[0]


def test_an_evaluation_of_an_old_model_does_not_mix_with_new_data(run, whole):
    """The file changes and the run is made anew; its record then names the old training and measurement."""
    old = record(run)["steps"]
    jsonl(whole / "chats.jsonl", conversations(19))
    turnsmith.run(
        {"title": "Mine", "base": str(whole / "model"), "forgetting": False, "steps": STEPS[:1]}, name="mine"
    )
    new = record(run)["steps"]
    assert new[0]["artefact"] != old[0]["artefact"]
    change(run, lambda found: found.update(steps=[new[0], *old[1:]]))
    assert states(run)[:5] == ["pass", "pass", "pass", "fail", "fail"]
    assert f"the record {old[0]['artefact']} is not of this run" in failures(run, 5)[0]


def test_another_model_in_the_place_of_what_was_trained_fails(run):
    step = record(run)["steps"][1]
    file = next(Path(step["path"], "model").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    assert any("tuned is as it was made: it has changed since" in one for one in failures(run, 4))
    assert states(run)[4] == "fail"


def test_a_measurement_of_another_model_fails(run):
    change(run, lambda found: found["steps"][2]["given"]["models"].update(tuned="0" * 64))
    assert "what was measured as tuned is what was trained" in failures(run, 5)[0]


def test_counts_that_do_not_add_up_fail(run):
    change(run, lambda found: found["steps"][0].update(rows=21))
    assert "21 rows: 20 examples, 0 left out" in failures(run, 1)[0]


def test_a_missing_measurement_fails(run, whole):
    key = record(run)["steps"][2]["tasks"][0]["measurements"]["tuned"]
    shutil.rmtree(whole / "home" / "shelf" / key)
    assert "no measurement is gone" in failures(run, 5)[0]


def test_a_run_that_was_stopped_does_not_pass(run):
    change(run, lambda found: found.update(state="stopped"))
    assert failures(run, 4) == ["the run was carried to its end: stopped"]


def test_perplexity_is_given_before_and_after(run):
    row = record(run)["steps"][2]["tasks"][0]["metrics"][1]
    assert row["name"] == "loss"
    found = audit(run)["stages"][4]["figures"]["tuned against base, perplexity on test (loss)"]
    assert found == pytest.approx(
        {"before": 2.718281828 ** row["before"], "after": 2.718281828 ** row["after"]}
    )


def test_what_is_exported_is_known_and_a_changed_file_fails(run):
    export(str(run / "tuned"), "out", form="adapter")
    assert states(run)[5] == "pass"
    (Path("out") / "README.md").write_text("Something else.")
    assert "the files of" in failures(run, 6)[0]
    (run / "deployed.jsonl").write_text("{")
    with pytest.raises(UsageError, match=r"deployed\.jsonl is broken"):
        audit(run)


def test_an_alarm_of_the_monitoring_fails_and_a_quiet_report_passes(run):
    (run / "monitor.json").write_text(json.dumps({"turns": 40, "alarms": []}))
    assert states(run)[6] == "pass"
    (run / "monitor.json").write_text(json.dumps({"turns": 40, "alarms": ["replies are longer"]}))
    assert failures(run, 7) == ["no alarm asks for a look or for training anew: replies are longer"]
    (run / "monitor.json").write_text("[]")
    with pytest.raises(UsageError, match=r"monitor\.json is broken"):
        audit(run)


def test_a_directory_without_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"has no run.json, which a run leaves when it ends"):
        audit(tmp_path)


def test_the_command_says_which_stage_fails_and_leaves_with_1(run, capsys):
    assert call(["check", str(run)]) == 0
    assert "4  fine-tuning           pass" in capsys.readouterr().out
    Path("chats.jsonl").write_text(Path("chats.jsonl").read_text() + "\n")
    assert call(["check", str(run), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["stages"][0]["state"] == "fail"
    assert call(["check", str(run), "--tiny"]) == 2


LEAKS = [("u: What is TWO  and two?", "a: 4"), ("u: what is two and two?", "a: four")]


def test_a_prompt_in_two_splits_fails_without_regard_to_case_and_spaces(tmp_path, monkeypatch):
    """One of the two is learnt from and the other measured on."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    model = directory(tmp_path / "model")
    for name, said in zip(("one", "other"), LEAKS, strict=True):
        rows = [Example({"text": chat(*said)}, {}, {"id": f"{name}-{n}"}) for n in range(1)]
        jsonl(tmp_path / f"{name}.jsonl", rows)
    steps = [{"data": {"name": name, "read": f"{name}.jsonl"}} for name in ("one", "other")]
    steps += [
        {"train": {**STEPS[1]["train"], "data": "one", "fit": {**FIT, "steps": 1}}},
        {"evaluate": {"model": "tuned", "suite": [{"heldout": {"on": "other"}}]}},
    ]
    turnsmith.run({"title": "Leaks", "base": str(model), "forgetting": False, "steps": steps}, name="leaks")
    (said,) = failures(Path("runs/leaks"), 1)
    assert said == "no prompt of one is in other: 1 are, such as 'what is two and two?'"


@pytest.mark.parametrize(("said", "expected"), [
    (("s: Be  brief.", "u: Hi\n THERE", "a: Yes"), "be brief.\nhi there"),
    (("u: a", "a: b", "u: C", "a: d"), "a\nb\nc"),
    (("u: ", "a: A text"), ""),
])  # fmt: skip
def test_a_prompt_is_what_stands_before_the_last_reply(said, expected):
    assert prompt(Example({"text": chat(*said)}, {}, {"id": "x"})) == expected
