"""Recipes printed as Python. That it makes the same artefacts is tested in tests/test_api.py."""

import pytest

from turnsmith.cli.main import call
from turnsmith.errors import UsageError
from turnsmith.recipes import FOLDER, components, schema
from turnsmith.recipes.script import UNSAID, script

TRAIN = {"name": "tuned", "data": "chats", "fit": {"steps": 9, "lr": 1e-3, "batch": 8}}
PLAIN = {
    "title": 'A "small" one',
    "base": "some/model",
    "minutes": 3.0,
    "steps": [{"data": {"name": "chats", "read": "chats.jsonl"}}, {"train": TRAIN}],
    "tiny": {"steps.1.train.fit.steps": 1},
}


def printed(**changes):
    return script({**PLAIN, **changes}, "mine", components())


def test_it_says_what_the_recipe_says_and_no_defaults():
    assert (
        printed()
        == """\
import turnsmith

with turnsmith.Steps("some/model", name="mine", title="A \\"small\\" one") as go:
    go.data("chats", read="chats.jsonl")
    go.train("tuned", data="chats", fit={"steps": 9, "lr": 0.001})
"""
    )


def test_each_arm_of_a_grid_is_a_block():
    text = printed(seeds=[0, 4], each={"steps.1.train.fit.lr": [1e-3, 2e-3]}, forgetting=False)
    assert text.count("with turnsmith.Steps(") == 4
    assert text.count("    seed=4,") == 2
    assert text.count("forgetting=False") == 4
    assert 'to="runs/mine/lr=0.002,seed=4"' in text


def test_a_repeat_is_a_loop():
    steps = [PLAIN["steps"][0], {"repeat": {"times": 3, "steps": [{"train": TRAIN}]}}]
    assert "    for _ in range(3):\n        go.train(" in printed(steps=steps)


def test_a_long_call_is_broken_into_its_keys():
    steps = [
        {
            "data": {
                "name": "chats",
                "read": "chats.jsonl",
                "stages": [{"turns": {"least": n}} for n in range(5)],
            }
        }
    ]
    assert '    go.data(\n        "chats",\n        read="chats.jsonl",\n        stages=[{"turns"' in printed(
        steps=steps
    )


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_that_comes_with_turnsmith_can_be_printed(file):
    text = script(schema.parse(file.read_text("utf-8"), file.name), file.stem, components())
    compile(text, file.stem, "exec")


def test_a_recipe_elsewhere_says_where_its_data_lie(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.yaml").write_text(schema.yaml12.dump(PLAIN))
    assert call(["show", "there/mine.yaml", "--python"]) == 0
    assert 'near="there"' in capfd.readouterr().out


def test_a_component_is_not_printed_as_python(capfd):
    assert call(["show", "dpo", "--python"]) == 2
    assert "'dpo' is no recipe" in capfd.readouterr().err


def test_what_python_cannot_say_is_refused(monkeypatch):
    monkeypatch.setattr("turnsmith.recipes.script.UNSAID", UNSAID - {"minutes"})
    with pytest.raises(UsageError, match=r"mine cannot be printed as Python: .* 'minutes' there yet"):
        printed()
