"""What a run says that could come out otherwise; and that all else comes out the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import turnsmith
from turnsmith.cli.main import call
from turnsmith.recipes import varying
from turnsmith.testing import conversations, directory, jsonl
from turnsmith.testing.server import serving

FIT = {"steps": 2, "batch": 2, "length": 128, "dtype": "float32"}
CLEAR = {"dtype": "float32", "seconds": {"float32": 0.1, "bfloat16": 0.3}}  # as measured where it is


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a file of chats, and a cache in which arithmetic was chosen."""
    monkeypatch.setenv("TURNSMITH_HOME", str(home(tmp_path / "home")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "chats.jsonl", conversations(6))
    return tmp_path


def home(place, chosen=CLEAR):
    place.mkdir(exist_ok=True)
    (place / "arithmetic.json").write_text(json.dumps(chosen))
    return place


def recipe(tiny, *, by="base", suite=({"heldout": {"on": "chats"}},)):
    train = {"name": "tuned", "data": "pairs", "objective": "dpo", "trainable": {"lora": {"rank": 2}}}
    respond = {"respond": {"by": by, "max_new": 8}}
    return {
        "title": "Mine",
        "base": str(tiny),
        "forgetting": False,
        "steps": [
            {"data": {"name": "chats", "read": "chats.jsonl"}},
            {"data": {"name": "pairs", "from": "chats", "stages": [respond]}},
            {"train": {**train, "fit": FIT}},
            {"evaluate": {"model": "tuned", "suite": list(suite)}},
        ],
    }


PAGE = Path("runs/mine/report.html")
TITLE = "What may come out otherwise"


def run(plain):
    (found,) = turnsmith.run(plain, name="mine")
    return found["varies"]


def test_nothing_is_said_where_all_is_deterministic(here, tiny, capfd):
    Path("mine.yaml").write_text(json.dumps(recipe(tiny)))
    assert call(["run", "mine.yaml"]) == 0
    assert "varies" not in capfd.readouterr().out
    found = json.loads(Path("runs/mine/run.json").read_text())
    assert found["varies"] == []
    assert TITLE not in PAGE.read_text()
    on = {"device": "cpu", "processes": 1}
    computed = [step.get("computed_on") for step in found["steps"][:3]]
    assert computed[0] is None  # nothing was drawn
    assert computed[1] == {**on, "threads": computed[1]["threads"], "dtype_seconds": CLEAR["seconds"]}
    assert computed[2] == {**on, "threads": computed[1]["threads"], "dtype_seconds": {}}


def test_replies_of_a_server_are_told_on_page_and_terminal(here, tiny, capfd):
    with serving() as server:
        reference = f"{server.url}#far?wait=0.001"
        Path("mine.yaml").write_text(json.dumps(recipe(tiny, by=reference)))
        assert call(["run", "mine.yaml"]) == 0
    (line,) = json.loads(Path("runs/mine/run.json").read_text())["varies"]
    assert line == (
        f"replies of {server.url}#far (data pairs): a server may answer otherwise another time; what it has "
        "answered is recorded here, and given again"
    )
    assert f"varies  {line}" in capfd.readouterr().out
    assert TITLE in PAGE.read_text()
    assert f"replies of {server.url}#far (data pairs)" in PAGE.read_text()


def test_other_threads_in_a_stage_that_samples_are_told(here, tiny):
    plain = recipe(tiny)
    Path("data.yaml").write_text(json.dumps({**plain, "steps": plain["steps"][:2]}))
    code = (
        "import torch; torch.set_num_threads(2); import turnsmith; turnsmith.run('data.yaml', name='first')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "turnsmith", "run", "mine.yaml", "--json"]
    Path("mine.yaml").write_text(json.dumps(plain))
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    (line,) = json.loads(done.stdout)[0]["varies"]
    assert line == (
        "computed on other numbers of threads (1 for train tuned, measure heldout; 2 for data pairs): last "
        "bits depend on it: set OMP_NUM_THREADS"
    )


def test_a_task_that_measures_time_says_so(here, tiny):
    speed = {"speed": {"count": 1, "reading": 8, "writing": 2, "repeats": 1}}
    plain = recipe(tiny, suite=[speed])
    plain["steps"] = [
        plain["steps"][0],
        {"evaluate": {"model": str(tiny), "suite": [speed], "against": None}},
    ]
    assert run(plain) == ["measure speed: its seconds are those of this machine with all that runs on it"]


# ---------------------------------------------------------------------------------------- what was noted


def train(device="cpu", threads=1, processes=1, seconds=(), said="", name="tuned"):
    on = {"device": device, "threads": threads, "processes": processes, "dtype_seconds": dict(seconds)}
    return {"verb": "train", "name": name, "computed_on": on, "room": {"said": said}}


@pytest.mark.parametrize(
    ("steps", "lines"),
    [
        ([train()], []),
        ([train(seconds=CLEAR["seconds"])], []),
        ([{"verb": "train", "name": "of an older version"}, train()], []),
        ([train("cuda"), train("cuda", 8, name="b")], ["computed on cuda (train tuned, train b): the order"]),
        ([train(processes=4)], ["several processes trained together (train tuned)"]),
        (
            [train(), train(threads=4, name="b")],
            ["computed on other numbers of threads (1 for train tuned; 4"],
        ),
        ([train(seconds={"float32": 1.0, "bfloat16": 1.2}.items())], ["float32 and bfloat16 were nearly as"]),
        ([train(said="rows of 64 tokens")], ["train tuned: rows of 64 tokens: by the memory that was free"]),
    ],
)
def test_what_last_bits_depend_on_is_told_where_it_was_not_fixed(steps, lines):
    found = list(varying._arithmetic(steps))
    assert len(found) == len(lines)
    for said, begins in zip(found, lines, strict=True):
        assert said.startswith(begins)


def test_a_model_of_the_hub_may_be_another_one_tomorrow(here):
    assert varying._is_of_the_hub("somebody/something")
    for reference in (str(here), "smollm2-135m-instruct", "pypi:some-package==1.0/model"):
        assert not varying._is_of_the_hub(reference)


def test_steps_that_follow_from_speed_are_told():
    assert varying.by_the_clock("tokens") == varying.by_the_clock("flops") == []
    assert varying.by_the_clock("seconds")[0].startswith("how many steps a method takes follows from")


# ----------------------------------------------------------------------------------- what does not differ

TIMES = {"clock.jsonl", "preparing.json", "turnsmith.json", "room.json"}  # seconds and memory


def made(place):
    """All files on the shelf but those that tell of time, by artefact and name."""
    shelf = place / "shelf"
    files = [path for path in sorted(shelf.rglob("*")) if path.is_file() and path.name not in TIMES]
    return {str(path.relative_to(shelf)): path.read_bytes() for path in files}


def test_two_fresh_processes_make_the_same_bytes(here, tiny):
    """Of data that were sampled, weights with dropout, metrics and items, in caches that share nothing."""
    plain = recipe(tiny)
    plain["steps"][2]["train"]["trainable"] = {"lora": {"rank": 2, "dropout": 0.2}}
    Path("mine.yaml").write_text(json.dumps(plain))
    found = []
    for name, seed in (("one", "1"), ("two", "2")):
        place = home(here / name)
        environment = {**os.environ, "TURNSMITH_HOME": str(place), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-m", "turnsmith", "run", "mine.yaml", "--to", str(here / f"to-{name}")]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found.append(made(place))
    one, two = found
    assert one.keys() == two.keys()
    for ending in ("adapter_model.safetensors", "metrics.jsonl", "all.jsonl", "items.jsonl"):
        assert any(name.endswith(ending) for name in one)
    assert [name for name in one if one[name] != two[name]] == []
