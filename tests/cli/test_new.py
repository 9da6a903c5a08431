"""`turnsmith new`: what it writes works, and it never writes over anything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from turnsmith.cli import new
from turnsmith.cli.main import call
from turnsmith.recipes import components, schema
from turnsmith.registry import KINDS

KINDS_OF_SKELETONS = new.kinds()


def test_there_is_a_skeleton_for_each_kind_and_a_home_for_each_skeleton():
    assert set(KINDS_OF_SKELETONS) == set(KINDS)
    assert set(KINDS_OF_SKELETONS) == set(new.HOMES)


def test_the_tests_that_it_writes_pass_as_they_are(here):
    for kind in KINDS_OF_SKELETONS:
        assert call(["new", kind, f"some_{kind}"]) == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        capture_output=True, text=True, check=False, cwd=here,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    collected = {line for kind in KINDS_OF_SKELETONS for line in here.glob(f"test_some_{kind}.py")}
    assert len(collected) == len(KINDS_OF_SKELETONS)


@pytest.mark.parametrize("kind", KINDS_OF_SKELETONS)
def test_the_recipe_that_it_writes_is_whole_uses_the_component_and_claims_something(here, kind):
    call(["new", kind, "some_thing"])
    file = Path("some_thing.yaml")
    plain = schema.parse(file.read_text(), file.name)
    known = components(["some_thing.py"])
    for tiny in (False, True):
        (arm,) = schema.arms(plain, file.name, known, tiny=tiny)
        assert arm.recipe.claim
        assert arm.recipe.control
        assert arm.recipe.minutes
        assert "some_thing" in str((arm.recipe.base, arm.recipe.steps))


@pytest.mark.parametrize("kind", KINDS_OF_SKELETONS)
def test_the_control_of_the_recipe_that_it_writes_takes_the_component_out_or_stops_it(here, kind):
    call(["new", kind, "some_thing"])
    file = Path("some_thing.yaml")
    plain = schema.parse(file.read_text(), file.name)
    known = components(["some_thing.py"])
    (arm,) = schema.arms(plain, file.name, known)
    for path, value in plain["control"].items():
        schema.assign(plain, path, value)
    (control,) = schema.arms(plain, file.name, known)
    assert control.recipe.steps != arm.recipe.steps


@pytest.mark.parametrize("kind", KINDS_OF_SKELETONS)
def test_the_component_says_what_it_is(here, kind, capfd):
    call(["new", kind, "some_thing"])
    capfd.readouterr()
    assert call(["show", f"{kind}/some_thing", "--use", "some_thing.py", "--json"]) == 0
    (entry,) = json.loads(capfd.readouterr().out)
    assert entry["summary"]


def test_it_says_what_it_wrote_and_what_to_type_next(here, capfd):
    assert call(["new", "stage", "short", "--to", "mine"]) == 0
    said = capfd.readouterr().out
    assert said.count("wrote   mine/") == 3
    assert "-m pytest mine/test_short.py" in said
    assert "run mine/short.yaml --use mine/short.py --tiny" in said
    assert call(["new", "stage", "long", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["files"] == ["long.py", "test_long.py", "long.yaml"]


def test_in_a_checkout_the_files_go_to_their_places_and_pass_the_lint(here):
    (here / "src" / "turnsmith").mkdir(parents=True)
    own = Path(__file__).parents[2] / "pyproject.toml"
    (here / "pyproject.toml").write_text(own.read_text())
    for kind in KINDS_OF_SKELETONS:
        assert call(["new", kind, f"a_{kind}_of_our_own"]) == 0
    for path in (
        "src/turnsmith/evaluation/tasks/a_task_of_our_own.py",
        "tests/evaluation/tasks/test_a_task_of_our_own.py",
        "src/turnsmith/recipes/a_task_of_our_own.yaml",
        "src/turnsmith/objectives/a_objective_of_our_own.py",
    ):
        assert Path(path).is_file()
    first = Path("tests/stages/test_a_stage_of_our_own.py").read_text()
    assert "from turnsmith.stages.a_stage_of_our_own import a_stage_of_our_own" in first
    for command in (["check", "--ignore", "INP"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_a_pyproject_of_another_project_is_no_checkout(here):
    (here / "src" / "turnsmith").mkdir(parents=True)
    (here / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    assert not new.is_checkout(here)


@pytest.mark.parametrize("file", ["fresh.py", "test_fresh.py", "fresh.yaml"])
def test_a_file_that_is_there_is_left_as_it_is_and_nothing_else_is_written(refused, here, file):
    (here / file).write_text("mine")
    assert f"{file} is there already" in refused("new", "stage", "fresh")
    assert (here / file).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "better"),
    [("My-Loss", "e.g. my_loss"), ("2nd", "e.g. nd"), ("class", "small letters"), ("", "")],
)
def test_what_is_no_python_name_is_refused_with_one_that_is(refused, name, better):
    said = refused("new", "stage", name)
    assert "cannot be the name" in said
    assert better in said


def test_a_name_that_is_taken_is_refused_with_its_place(refused):
    assert "there is already objective 'dpo' (turnsmith.objectives.pairs" in refused("new", "stage", "dpo")
    assert "recipes/quickstart.yaml" in refused("new", "stage", "quickstart")


def test_a_name_that_would_hide_a_module_is_refused(refused):
    assert "would hide the Python module 'json'" in refused("new", "format", "json")


def test_an_unknown_kind_is_refused_with_the_nearest(refused):
    assert "did you mean 'objective'?" in refused("new", "objektive", "mine")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS_OF_SKELETONS)
def test_the_recipe_that_it_writes_runs_tiny_on_the_shipped_model(here, kind, capfd):
    call(["new", kind, "some_thing"])
    assert call(["run", "some_thing.yaml", "--use", "some_thing.py", "--tiny"]) == 0
    assert "not judged" in capfd.readouterr().out
