"""Models behind endpoints in recipes: what is measured, counted, left out, refused, and not asked again."""

import json
import shutil
from pathlib import Path

import pytest

import turnsmith
from turnsmith.errors import ModelError, StorageError, UsageError
from turnsmith.recipes import components, schema
from turnsmith.recipes.start import comparison
from turnsmith.recipes.telling import remarks
from turnsmith.testing import directory
from turnsmith.testing.server import reply, says, serving

QUICK = "wait=0.001&tries=2"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server, and a directory with a cache of its own to work in."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with serving() as running:
        running.usual = says(lambda asked: reply(added(asked)))
        yield running


def added(asked):
    """The right answer to a sum; the model `weak` is wrong where the first number is odd."""
    words = asked["messages"][-1]["content"].rstrip("?").split()
    first, second = int(words[2]), int(words[4])
    return str(first + second + (asked["model"] == "weak" and first % 2))


def recipe(server, count=40, options="", **evaluate):
    sums = {"name": "asked", "stages": [{"sums": {"count": count, "most": 9}}]}
    step = {
        "model": f"{server.url}#strong?{QUICK}{options}",
        "suite": [{"exact": {"on": "asked"}}],
        **evaluate,
    }
    return {
        "title": "Sums",
        "base": f"{server.url}#weak?{QUICK}",
        "steps": [{"data": sums}, {"evaluate": step}],
    }


def run(*given, **more):
    said = []
    (found,) = turnsmith.run(recipe(*given, **more), say=said.append)
    (task,) = found["steps"][-1]["tasks"]
    return found, task, said


def measurements(task):
    home = Path("home/shelf")
    return {model: (home / key / "items.jsonl").read_bytes() for model, key in task["measurements"].items()}


def test_two_endpoints_are_compared_item_by_item(server):
    _, task, _ = run(server)
    (row,) = task["metrics"]
    odd = sum(int(asked["messages"][-1]["content"].split()[2]) % 2 for asked in server.asked) / 2
    assert (row["n"], row["before"], row["after"]) == (40, (40 - odd) / 40, 1.0)
    assert (row["left_out"], row["verdict"]) == (0, "better")


def test_what_got_worse_is_told_with_what_was_asked_and_said(server):
    turned = recipe(server, model=f"{server.url}#weak?{QUICK}")
    (found,) = turnsmith.run(turned | {"base": f"{server.url}#strong?{QUICK}"})
    ((metric,),) = (task["metrics"] for task in found["steps"][-1]["tasks"])
    told = metric["worst"]
    assert told["better"] == 0
    assert told["worse"] == round(40 * (metric["before"] - metric["after"]))
    assert 10 < told["worse"] < 30  # where the first number is odd
    assert len(told["items"]) == 3
    for row in told["items"]:
        (turn, _) = row["prompt"]
        first, second = (int(word) for word in turn["text"].rstrip("?").split()[2::2])
        assert first % 2 == 1
        assert row["said"] == {"before": str(first + second), "after": str(first + second + 1)}
        assert row["reference"] == str(first + second)
    page = Path("runs/recipe/report.html").read_text("utf-8")
    assert "What got worse by most" in page
    assert told["items"][0]["prompt"][0]["text"] in page


def test_a_second_run_asks_nothing_and_its_items_are_the_same_bytes(server):
    _, task, _ = run(server)
    first = measurements(task)
    asked = len(server.asked)
    shutil.rmtree("home/shelf")
    _, task, said = run(server)
    assert measurements(task) == first
    assert len(server.asked) == asked
    assert any("0 replies asked for, 40 recorded before" in line for line in said)


def test_what_could_not_be_answered_is_left_out_of_both_sides_counted_and_shown(server):
    server.usual = without(server, "strong", 2)
    found, task, said = run(server)
    (row,) = task["metrics"]
    assert (row["n"], row["left_out"], row["after"]) == (38, 2, 1.0)
    strong = f"{server.url}#strong?{QUICK}"
    reason = {'N Internal Server Error: {"error": "boom N"} (N tries)': 2}
    assert task["failed"] == {"base": {}, strong: reason}
    assert any("n=38, 2 left out" in line for line in said)
    assert any(f"{strong}: 2 of 40 not answered: 2 N Internal Server Error" in line for line in said)
    page = Path("runs/recipe/report.html").read_text("utf-8")
    assert "38 items, 2 left out" in page
    assert "2 of 40 not answered" in page
    items = [json.loads(line) for line in measurements(task)[strong].splitlines()]
    failed = [item for item in items if item["failed"]]
    assert [item["values"] for item in failed] == [{}, {}]
    assert found["state"] == "done"


def without(server, model, count):
    """The usual behaviour, but that `model` cannot answer so many of the questions."""
    usual, bad = server.usual, []

    def behave(handler, asked):
        seed = asked["seed"]  # a question may come twice, with another seed
        with server.lock:
            if asked["model"] == model and seed not in bad and len(bad) < count:
                bad.append(seed)
        fails = asked["model"] == model and seed in bad
        (says({"error": "boom 17"}, 500) if fails else usual)(handler, asked)

    return behave


def test_too_many_failures_are_an_error_and_what_came_is_not_asked_again(server):
    good = server.usual
    server.usual = without(server, "strong", 3)
    with pytest.raises(
        ModelError, match=r"3 of 40 items could not be answered, more than the 5% that `max_f"
    ):
        run(server)
    server.usual, asked = good, len(server.asked)
    _, task, _ = run(server)
    assert len(server.asked) - asked == 3
    assert task["metrics"][0]["left_out"] == 0


def test_the_share_that_may_fail_is_an_option(server):
    server.usual = without(server, "strong", 3)
    _, task, _ = run(server, max_failed=0.1)
    assert task["metrics"][0]["left_out"] == 3


def test_replies_that_do_not_end_are_counted_as_such(server):
    server.usual = says(lambda asked: reply(added(asked), "length" if asked["model"] == "weak" else "stop"))
    _, task, said = run(server)
    assert task["cut"]["base"] == {"replies": 40, "cut": 40}
    assert any("base: 100.0% of 40 replies cut at the limit" in line for line in said)
    assert not any("strong" in line and "cut at the limit" in line for line in said)


def test_tokens_and_cost_are_told(server):
    _, task, said = run(server, options="&price=1,10")
    spent = task["spent"][f"{server.url}#strong?{QUICK}&price=1,10"]
    assert (spent["asked"], spent["prompt"], spent["completion"]) == (40, 440, 120)
    assert spent["cost"] == pytest.approx(440e-6 + 1200e-6, rel=1e-9)
    assert any("440 tokens read, 120 written, cost 0.0016" in line for line in said)


def test_a_stage_may_ask_an_endpoint(server):
    server.usual = says(lambda asked: reply("no idea"))
    plain = recipe(server, count=10)
    model = f"{server.url}#weak?{QUICK}"
    paired = {"name": "pairs", "from": "asked", "stages": [{"respond": {"by": model, "max_new": 4}}]}
    said = []
    plain["steps"][1:] = [{"data": paired}]
    (found,) = turnsmith.run(plain, say=said.append)
    assert any("10 replies asked for, 0 recorded before, 110 tokens read, 30 written" in one for one in said)
    (file,) = Path(found["steps"][-1]["path"]).glob("all.jsonl")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert {row["parts"]["rejected"][-1]["content"] for row in rows} == {"no idea"}
    assert len(rows) == 10


# ------------------------------------------------------------------------------------------ what is refused

FAR = "http://host.invalid/v1#m"


def refused(*steps, base=FAR):
    plain = {
        "title": "No",
        "base": base,
        "steps": [{"data": {"name": "asked", "stages": [{"sums": {"count": 4}}]}}, *steps],
    }
    with pytest.raises(UsageError) as error:
        schema.arms(plain, "no.yaml", components())
    return str(error.value)


def test_tasks_that_need_likelihoods_are_refused_by_name_before_anything_is_measured():
    suite = ["stopping", {"heldout": {"on": "asked"}}, "abilities"]
    said = refused({"evaluate": {"model": "smollm2-135m-instruct", "suite": suite}})
    assert (
        f"no.yaml: heldout, abilities cannot be measured on {FAR}: an endpoint gives replies and no like"
        in said
    )
    only = (
        "boxes, code, exact, idling, ifeval, interrupted, maths, named, novelty, paths, played, replies, "
        "rouge, steered"
    )
    assert f"Tasks that need replies only are {only}" in said


def test_a_task_that_asks_for_the_start_is_refused_where_the_start_is_an_endpoint():
    near = "smollm2-135m-instruct"
    said = refused({"evaluate": {"model": near, "against": near, "suite": ["divergence"]}})
    assert f"divergence cannot be measured on {FAR}" in said


@pytest.mark.parametrize(
    ("step", "base", "words"),
    [
        (
            {"train": {"name": "t", "data": "asked", "fit": {"steps": 1}}},
            FAR,
            "train t: `start` is the endpoint",
        ),
        (
            {"train": {"name": "t", "data": "asked", "start": FAR, "fit": {"steps": 1}}},
            "smollm2-135m-instruct",
            "train t: `start` is the endpoint",
        ),
        (
            {"train": {"name": "t", "data": "asked", "start": "a/b", "fit": {"steps": 1}}},
            FAR,
            "train t: `base` is the endpoint",
        ),
        (
            {"merge": {"name": "m", "models": ["a/b", FAR], "base": "a/b", "method": "half_reset"}},
            "a/b",
            "merge m",
        ),
    ],
)
def test_verbs_that_need_weights_say_so(step, base, words):
    said = refused(step, base=base)
    assert words in said
    assert "this needs weights: name a directory" in said


def test_a_key_that_is_not_set_is_found_before_anything_runs(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    assert "MY_KEY" in refused(base=f"{FAR}?key=MY_KEY")


def test_an_endpoint_is_measured_by_those_general_tasks_that_can_be():
    plain, name = comparison(
        ["http://host/v1#owner/big model"], against="smollm2-135m-instruct", data="chats.jsonl"
    )
    assert [*map(str, plain["steps"][-1]["evaluate"]["suite"])] == ["{'replies': {'on': 'data'}}", "stopping"]
    assert name == "evaluate-owner-big-model"


def test_a_comparison_whose_measurements_were_deleted_says_what_else_has_to_go(server):
    found, task, _ = run(server, count=4)
    shelf, before = Path("home/shelf"), measurements(task)
    gone, comparison_of = next(iter(task["measurements"].values())), found["steps"][-1]["artefact"]
    shutil.rmtree(shelf / gone)
    with pytest.raises(
        StorageError, match=rf"measurement .*{gone} is gone.*{comparison_of}.*remove that one too"
    ):
        run(server, count=4)
    shutil.rmtree(shelf / comparison_of)
    _, again, _ = run(server, count=4)
    assert again["measurements"] == task["measurements"]
    assert measurements(again) == before


def lost(**models):
    none = {model: {} for model in models}
    return remarks({"items": 9, "lost": models, "failed": none, "cut": none, "spent": none})


def test_examples_that_were_left_out_are_told_once_where_it_is_the_same_for_all():
    assert lost(base={"too long": 2, "no opening": 1}, tuned={"too long": 2, "no opening": 1}) == [
        "examples: 2 too long; 1 no opening"
    ]
    assert lost(base={"too long": 2}, tuned={}) == ["base: examples: 2 too long"]
    assert lost(base={}, tuned=None) == []


def test_what_a_task_cut_is_in_the_record_the_lines_and_the_report(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    turns = [("user", "x"), ("assistant", "y"), ("user", "x"), ("assistant", "y " * 40)]
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns[:n]]} for n in (2, 4)]
    Path("chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    heldout = {"heldout": {"on": "asked", "length": 30}}
    given = {
        "title": "Cut",
        "base": str(directory(tmp_path / "base")),
        "steps": [
            {"data": {"name": "asked", "read": "chats.jsonl"}},
            {"evaluate": {"model": "base", "against": None, "suite": [heldout]}},
        ],
    }
    said = []
    (found,) = turnsmith.run(given, say=said.append, name="cut")
    (task,) = found["steps"][-1]["tasks"]
    told = "cut after the last whole turn that fits"
    assert task["lost"] == {"base": {told: 1}}
    assert [line.strip() for line in said if "examples: " in line] == [f"heldout, examples: 1 {told}"]
    assert f"examples: 1 {told}" in Path("runs/cut/report.html").read_text()
