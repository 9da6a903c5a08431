"""`turnsmith doctor`: what it finds, what it advises, and when it says that something is broken."""

import json
import re
import subprocess
import sys

import pytest

from turnsmith.cli import doctor
from turnsmith.cli.main import call


def lines(text: str) -> dict[str, str]:
    """Name -> text of each line that is no advice."""
    return {line[:14].strip(): line[14:] for line in text.splitlines()}


def test_it_tries_everything_out_and_says_that_it_works(capfd):
    assert call(["doctor"]) == 0
    said = lines(capfd.readouterr().out)
    assert {"python", "torch", "cpu", "memory", "cache", "disk", "sandbox", "threads", "arithmetic"} <= set(
        said
    )
    first, last = map(float, re.findall(r"loss ([\d.]+) -> ([\d.]+)", said["training"])[0])
    assert first == pytest.approx(4.16, abs=0.3)  # log 64: nothing is known yet
    assert last < first / 2
    assert "as they were learnt" in said["sampling"]
    assert said["shelf"] == "written, read back, removed"
    assert float(said["self-test"].split()[0]) < 20
    assert said["verdict"] == "Turnsmith works here"


def test_it_leaves_nothing_on_the_shelf(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path))
    assert call(["doctor"]) == 0
    assert [*(tmp_path / "shelf").iterdir()] == []


def test_as_json(capfd):
    assert call(["doctor", "--quick", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["works"] is True
    assert {"name", "text", "state", "advice"} == set(found["findings"][0])


def test_a_quick_look_does_not_import_torch(here):
    code = """if True:
        import sys
        from turnsmith.cli.main import call
        call(['doctor', '--quick'])
        print('torch' in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("here", "state", "text"),
    [
        ("2.13.4+cpu", "fine", "2.13.4+cpu"),
        ("2.9.0", "broken", "2.9.0, too old: the tests were run with 2.13"),  # 9 is less than 13
        ("3.0.0", "note", "3.0.0, untested: the tests were run with 2.13"),
        (None, "broken", "not installed"),
    ],
)
def test_a_version_is_judged_by_the_series_that_the_tests_run_with(here, state, text):
    found = doctor.judged("torch", here)
    assert (found.state, found.text) == (state, text)
    assert bool(found.advice) == (state == "broken")


def test_a_home_that_cannot_be_written_is_broken(monkeypatch, capfd, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "file" / "home"))
    assert call(["doctor"]) == 1
    said = capfd.readouterr().out
    assert "something is broken" in said
    assert f"{tmp_path / 'file'} cannot be written: set TURNSMITH_HOME" in said
    assert "shelf         fails: " in said


def test_more_threads_than_cores_are_advised_against(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "512")
    (finding,) = [found for found in doctor.processor() if found.name == "threads"]
    assert "set OMP_NUM_THREADS=" in finding.advice


def test_other_programs_on_the_cores_are_told_apart_from_a_quiet_machine(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("os.getloadavg", lambda: (99.0, 0.0, 0.0))
    (finding,) = [found for found in doctor.processor() if found.name == "load"]
    assert "set OMP_WAIT_POLICY=PASSIVE" in finding.advice
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    assert [found for found in doctor.processor() if found.name == "load"] == []


def test_training_that_learns_nothing_is_broken(tmp_path):
    from turnsmith.cli import trial

    model = trial.made_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "STEPS", 1)  # one step is not enough to halve the loss
        found = trial.training(model, tmp_path)
    assert found.state == "broken"
    assert "is torch whole?" in found.advice
    assert trial.sampling(model).state == "broken"  # what was not learnt is not said


def test_it_says_how_programs_of_models_are_kept_apart():
    from turnsmith.tools.sandbox import Isolation

    assert doctor.isolated(Isolation("namespaces")).text == "namespaces; nothing is missing"
    found = doctor.isolated(Isolation("limits", ("the network is not cut",), "no right"))
    assert found.text == "limits; the network is not cut (no right)"
    assert "where Linux namespaces are allowed" in found.advice
