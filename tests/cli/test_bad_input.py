"""Bad input is refused before anything long starts: exit code, text with place and way out, nothing left."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = [
    {
        "messages": [
            {"role": "user", "content": f"How are you, number {n}?"},
            {"role": "assistant", "content": f"I am fine, thank you. And you, {n}?"},
        ]
    }
    for n in range(12)
]


def test_a_misspelt_key_names_its_place_and_the_right_one(refused, recipe, rows):
    said = refused("run", recipe(rows(GOOD), fitt={"steps": 1}))
    assert "steps.1.train.fitt" in said
    assert "did you mean fit?" in said


def test_a_misspelt_option_of_fit_too(refused, recipe, rows):
    said = refused("run", recipe(rows(GOOD), fit={"steps": 1, "lenght": 3}))
    assert "lenght" in said
    assert "did you mean length?" in said


def test_an_unknown_component_names_the_nearest(refused, recipe, rows):
    assert "did you mean 'lora' or" in refused("run", recipe(rows(GOOD), trainable="lorra"))


def test_an_unknown_option_of_a_component_names_the_nearest(refused, recipe, rows):
    said = refused("run", recipe(rows(GOOD), trainable={"lora": {"rang": 4}}))
    assert "no option 'rang'" in said
    assert "'rank'" in said


@pytest.mark.parametrize("value", ["[", "!!int x", "&a [*a]"])
def test_a_setting_that_is_no_yaml_is_named(refused, recipe, rows, value):
    assert f"--set seed={value} is no YAML" in refused("run", recipe(rows(GOOD)), "--set", f"seed={value}")


def test_a_missing_file_is_named(refused, recipe):
    said = refused("run", recipe("nowhere.jsonl"))
    assert "'nowhere.jsonl'" in said
    assert "chitchat" in said


def test_an_empty_data_set_is_refused(refused, recipe, rows):
    assert "holds no rows" in refused("run", recipe(rows([])))


def test_a_row_without_assistant_text_is_named(refused, recipe, rows):
    bad = {"id": "lonely", "messages": [{"role": "user", "content": "Anybody?"}]}
    said = refused("run", recipe(rows([*GOOD, bad])))
    assert "'lonely' has no assistant text" in said
    assert "remove the row" in said


def test_an_unknown_role_is_named_with_row_and_message(refused, recipe, rows):
    bad = {"id": "odd", "messages": [{"role": "asistant", "content": "Hm."}]}
    said = refused("run", recipe(rows([*GOOD, bad])))
    assert "row 'odd'" in said
    assert "messages[0] has the unknown role 'asistant'" in said


def test_a_conversation_over_the_limit_is_named(refused, recipe, rows):
    long = {
        "id": "long",
        "messages": [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "so " * 99}],
    }
    fit = {"steps": 1, "length": 64, "over": "fail"}
    said = refused("run", recipe(rows([*GOOD, long]), fit=fit))
    assert "'long' has" in said
    assert "the limit is 64" in said
    assert "fit.length" in said


def test_a_model_that_is_not_there_is_named(refused, recipe, rows):
    said = refused("run", recipe(rows(GOOD), base="smolm2-135m-instruct"))
    assert "smolm2-135m-instruct" in said
    assert "smollm2-135m-instruct" in said.replace("'smolm2-135m-instruct'", "")


def test_a_tie_of_formats_asks(refused, recipe, rows):
    both = {"messages": GOOD[0]["messages"], "conversations": [{"from": "human", "value": "Hi"}]}
    said = refused("run", recipe(rows([both])))
    assert "fit equally well" in said


def test_a_broken_json_line_is_named(refused, recipe, tmp_path):
    file = tmp_path / "broken.jsonl"
    file.write_text(json.dumps(GOOD[0]) + "\n{broken\n")
    assert "line 2: no JSON" in refused("run", recipe(file))


def test_a_package_that_cannot_be_fetched_says_so(refused, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    said = refused("data", "pypi:no-such-package==1.0/data.jsonl", code=1)
    assert "no-such-package" in said


def test_a_full_disk_is_named(recipe, rows, here, small_disk: Path):
    environment = {"TURNSMITH_HOME": str(small_disk)}
    done = subprocess.run(
        [sys.executable, "-m", "turnsmith", "run", str(recipe(rows(GOOD * 200)))],
        capture_output=True, text=True, check=False, cwd=here, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 1
    assert "disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(here.iterdir()) == []


def test_usage_errors_name_the_usage(refused):
    said = refused("run", "quickstart", "--nope")
    assert "--nope" in said
    assert "Usage:" in said


def test_errors_come_as_json_too(here, capfd: pytest.CaptureFixture[str]):
    from turnsmith.cli.main import call

    assert call(["show", "lorra", "--json"]) == 2
    error = json.loads(capfd.readouterr().out)
    assert error["exit_code"] == 2
    assert "lora" in error["error"]


def test_a_package_with_the_wrong_hash_is_refused(refused, tmp_path, monkeypatch):
    wheels = tmp_path / "home" / "wheels"
    wheels.mkdir(parents=True)
    (wheels / "chitchat_dataset-0.9.0-py3-none-any.whl").write_bytes(b"something else")
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    said = refused("data", "chitchat", code=1)
    assert "chitchat_dataset-0.9.0-py3-none-any.whl" in said
    assert "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e" in said


def test_a_claim_on_a_figure_that_no_task_gives_is_refused(refused, recipe, rows):
    path = recipe(rows(GOOD), evaluate=True)
    plain = json.loads(path.read_text())
    plain["claim"] = [{"task": "heldout", "quantity": "los", "of": "tuned", "direction": "lower"}]
    path.write_text(json.dumps(plain))
    said = refused("run", path)
    assert "no figure 'los'" in said
    assert "'loss'" in said


# --------------------------------------------------------------------------------------- bad rows


LONELY = {"id": "odd", "messages": [{"role": "asistant", "content": "Hm."}]}


def broken(tmp_path):
    """Twelve good rows, and three bad ones, each in its own way."""
    lines = [json.dumps(row) for row in GOOD]
    lines[3:3] = ["{broken", json.dumps(LONELY)]
    path = tmp_path / "broken.jsonl"
    path.write_bytes("\n".join([*lines, ""]).encode() + b'{"messages": "\xff"}\n')
    return path


def test_bad_rows_are_set_aside_told_counted_and_kept_beside_the_data(here, recipe, tmp_path, capfd):
    from turnsmith.cli.main import call

    path = recipe(broken(tmp_path))
    plain = json.loads(path.read_text())
    plain["steps"][0]["data"]["bad_rows"] = "quarantine"
    path.write_text(json.dumps(plain))
    assert call(["run", str(path), "--to", "out"]) == 0
    said = capfd.readouterr().out
    step = json.loads((here / "out" / "run.json").read_text())["steps"][0]
    assert (step["rows"], step["examples"], sum(step["counts"].values())) == (15, 12, 3)
    assert "1 bad row: messages[N] has the unknown role ..." in said
    assert f"bad rows: {step['bad_rows']}" in said
    taken = [json.loads(line) for line in Path(step["bad_rows"]).read_text().splitlines()]
    assert {(one["line"], one["id"]) for one in taken} == {(4, None), (5, "odd"), (15, None)}
    assert step["bad_rows"] in (here / "out" / "report.html").read_text()


def test_tune_sets_bad_rows_aside_where_it_is_told_to(here, tiny, tmp_path, capfd, refused):
    from turnsmith.cli.main import call

    path = broken(tmp_path)
    assert "broken.jsonl, line 4: no JSON" in refused("tune", tiny, path, "--dry")
    assert call(["tune", str(tiny), str(path), "--dry", "--bad-rows", "quarantine"]) == 0
    said = capfd.readouterr().out
    assert "bad_rows: quarantine" in said
    assert "of 11 examples" in said  # 0.9 of the 12 that are left, rounded
    assert list(here.iterdir()) == []


def test_an_unknown_way_with_bad_rows_is_refused(refused, tiny, rows):
    said = refused("tune", tiny, rows(GOOD), "--bad-rows", "ignore")
    assert "'ignore' is not one of 'stop', 'quarantine'" in said
