"""A run's directory: one process at a time, and what another run left there is kept."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import turnsmith
from turnsmith.errors import UsageError
from turnsmith.recipes import claims, keeping
from turnsmith.testing import conversations, directory, jsonl

FIT = {"steps": 1, "batch": 2, "length": 128, "dtype": "float32"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture
def home(tmp_path_factory, monkeypatch):
    """A cache with nothing in it."""
    place = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("TURNSMITH_HOME", str(place))
    return place


@pytest.fixture
def here(tmp_path, monkeypatch, home):
    """An empty working directory with a file of chats."""
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "chats.jsonl", conversations(6))
    return tmp_path


def recipe(tiny, *further, title="Mine", **fit):
    steps = [
        {"data": {"name": "chats", "read": "chats.jsonl"}},
        {"train": {"name": "tuned", "data": "chats", "trainable": {"lora": {"rank": 2}}, "fit": FIT | fit}},
        *further,
    ]
    return {"title": title, "base": str(tiny), "forgetting": False, "steps": steps}


MEASURED = {"evaluate": {"model": "tuned", "suite": [{"heldout": {"on": "chats"}}]}}
PLACE = Path("runs/mine")
LEFT = {"run.json", "report.html", "recipe.yaml", "tuned"}


def run(plain, **given):
    """What the run held, and what it said of things that it kept."""
    said = []
    (found,) = turnsmith.run(plain, name="mine", say=said.append, **given)
    return found, [line for line in said if line.startswith("kept")]


def names(place=PLACE):
    return {path.name for path in place.iterdir()}


def content(place=PLACE):
    return {name: (place / name).read_text() for name in ("run.json", "report.html", "recipe.yaml")}


# --------------------------------------------------------------------------------- one process at a time

HOLDER = """
import sys
from pathlib import Path
from turnsmith.recipes.keeping import hold
with hold(Path("runs/mine")):
    print("in", flush=True)
    sys.stdin.readline()
    Path("runs/mine/by").write_text(sys.argv[1])
"""


def started(*command):
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def at_work(process):
    return f"process {process} on {platform.node()} is at work in runs/mine: waiting for it\n"


def test_a_second_process_waits_and_says_for_which(here):
    first = started("-c", HOLDER, "first")
    assert first.stdout.readline() == "in\n"
    second = started("-c", HOLDER, "second")
    assert second.stderr.readline() == at_work(first.pid)
    first.communicate("go\n")
    assert second.stdout.readline() == "in\n"
    assert (PLACE / "by").read_text() == "first"
    second.communicate("go\n")
    assert names() == {"by"}


def test_who_was_killed_gives_its_place_to_the_next(here):
    first = started("-c", HOLDER, "first")
    assert first.stdout.readline() == "in\n"
    second = started("-c", HOLDER, "second")
    second.stderr.readline()
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "in\n"
    third = started("-c", HOLDER, "third")
    assert third.stderr.readline() == at_work(second.pid)
    second.communicate("go\n")
    third.communicate("go\n")
    assert (PLACE / "by").read_text() == "third"


def test_two_runs_of_one_process_would_wait_for_ever(here):
    with keeping.hold(PLACE), pytest.raises(UsageError, match=r"runs/mine: another run of this very process"):
        keeping.hold(PLACE)
    with keeping.hold(PLACE):
        assert names() == {"turnsmith.lock"}


def test_a_directory_in_which_nothing_was_left_goes_again(here):
    with keeping.hold(PLACE):
        assert PLACE.is_dir()
    assert not Path("runs").exists()
    (Path("runs") / "other").mkdir(parents=True)
    with keeping.hold(PLACE):
        pass
    assert names(Path("runs")) == {"other"}


def test_a_forked_copy_of_the_holder_does_not_let_go(here):
    held = keeping.hold(PLACE)
    child = os.fork()
    if not child:
        held.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert names() == {"turnsmith.lock"}
    held.release()


def test_who_dropped_a_run_half_way_can_begin_it_anew(here, tiny):
    """As in a notebook whose cells are carried out again."""
    go = turnsmith.Steps(tiny, name="mine", forgetting=False)
    for _ in range(2):
        go.data("chats", read="chats.jsonl")
        go.train("tuned", data="chats", trainable={"lora": {"rank": 2}}, fit=FIT)
        go = turnsmith.Steps(tiny, name="mine", forgetting=False)
    assert names() == {"recipe.yaml", "tuned"}


def test_a_run_waits_for_the_directory_and_keeps_what_it_finds_there(here, tiny):
    Path("mine.yaml").write_text(json.dumps(recipe(tiny)))
    run(recipe(tiny))
    before = content()
    held = keeping.hold(PLACE)
    second = started("-m", "turnsmith", "run", "mine.yaml", "--set", "steps.1.train.fit.lr=0.01")
    assert second.stderr.readline() == at_work(os.getpid())
    assert content() == before
    held.release()
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0
    assert "kept    runs/mine/earlier-1: what another run had left in runs/mine" in said
    assert content(PLACE / "earlier-1") == before


# ------------------------------------------------------------------------------- what another run left


def test_another_setting_keeps_what_the_first_left(here, tiny):
    first, _ = run(recipe(tiny))
    before, model = content(), (PLACE / "tuned").resolve()
    second, said = run(recipe(tiny, lr=0.01))
    assert said == ["kept    runs/mine/earlier-1: what another run had left in runs/mine"]
    assert names() == LEFT | {"earlier-1"}
    assert names(PLACE / "earlier-1") == LEFT
    assert content(PLACE / "earlier-1") == before
    assert (PLACE / "earlier-1" / "tuned").resolve() == model != (PLACE / "tuned").resolve()
    assert (
        json.loads((PLACE / "run.json").read_text())["steps"][1]["artefact"] == second["steps"][1]["artefact"]
    )
    assert run(recipe(tiny))[1] == ["kept    runs/mine/earlier-2: what another run had left in runs/mine"]
    assert (PLACE / "tuned").resolve() == model
    assert first["steps"][1]["artefact"] in (PLACE / "run.json").read_text()


def test_other_data_of_the_same_name_keep_it_too(here, tiny):
    run(recipe(tiny))
    before = content()
    jsonl(here / "chats.jsonl", conversations(5))
    assert run(recipe(tiny))[1]
    assert content(PLACE / "earlier-1") == before


def test_the_same_again_has_one_report(here, tiny):
    for _ in range(2):
        assert run(recipe(tiny))[1] == []
    assert names() == LEFT


def test_what_says_less_does_not_take_the_place_of_what_says_more(here, tiny):
    run(recipe(tiny, MEASURED))
    before = content()
    assert run(recipe(tiny))[1]
    assert content(PLACE / "earlier-1") == before
    assert names() == LEFT | {"earlier-1"}


def test_another_recipe_that_makes_the_same_keeps_it_too(here, tiny):
    run(recipe(tiny))
    before = content()
    assert run(recipe(tiny, title="Other"))[1]
    assert content(PLACE / "earlier-1") == before
    assert "Other" in (PLACE / "report.html").read_text()
    assert (PLACE / "tuned").is_symlink()


def test_what_failed_gives_way_to_what_goes_on_with_it(here, tiny):
    broken = {"evaluate": {"model": str(here / "nothing"), "suite": [{"heldout": {"on": "chats"}}]}}
    with pytest.raises(turnsmith.errors.TurnsmithError):
        run(recipe(tiny, broken))
    assert json.loads((PLACE / "run.json").read_text())["state"] == "failed"
    assert run(recipe(tiny, MEASURED))[1] == []
    assert names() == LEFT


def test_the_recipe_of_a_run_that_was_killed_is_kept(here, tiny):
    PLACE.mkdir(parents=True)
    (PLACE / "recipe.yaml").write_text("of another")
    assert run(recipe(tiny))[1]
    assert (PLACE / "earlier-1" / "recipe.yaml").read_text() == "of another"


@pytest.mark.parametrize("name", ["report.html", "run.json", "comparison.json"])
def test_a_file_of_unknown_origin_is_kept(here, tiny, name):
    PLACE.mkdir(parents=True)
    (PLACE / name).write_text("whose?")
    (PLACE / "report.html").write_text("whose?")
    (PLACE / "notes.txt").write_text("my own")
    assert run(recipe(tiny))[1]
    assert (PLACE / "earlier-1" / name).read_text() == "whose?"
    assert (PLACE / "notes.txt").exists()


def test_verbs_in_the_same_directory_go_on_with_their_own_report(here, tiny):
    for finished in (True, False):
        with turnsmith.Steps(tiny, name="mine", forgetting=False) as go:
            go.data("chats", read="chats.jsonl")
            go.train("tuned", data="chats", trainable={"lora": {"rank": 2}}, fit=FIT)
            if finished:
                go.finish()
            go.evaluate("tuned", suite=[{"heldout": {"on": "chats"}}])
    assert len(json.loads((PLACE / "run.json").read_text())["steps"]) == 3
    assert names() == LEFT


def test_results_of_two_claims_come_into_one_file(here):
    file = here / "results.json"
    code = (
        "import sys\nfrom pathlib import Path\nfrom turnsmith.recipes.claims import record\n"
        "for n in range(40):\n"
        "    record(Path('results.json'), [{'recipe': f'{sys.argv[1]}{n}', 'card': 1}])\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [one.wait() for one in both] == [0, 0]
    assert len(json.loads(file.read_text())) == 80
    assert names(here) == {"chats.jsonl", "results.json"}
    claims.record(file, [{"recipe": "a0", "card": 2}])
    assert len(json.loads(file.read_text())) == 80
