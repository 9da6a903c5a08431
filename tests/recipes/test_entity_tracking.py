"""Tasks that are given models, in a recipe that looks into a model and into what was tuned from it."""

import pytest

import turnsmith
from turnsmith.errors import UsageError
from turnsmith.recipes import schema
from turnsmith.registry import Registry


def plain():
    return schema.parse(schema.find("entity-tracking").read_text("utf-8"), "entity-tracking")


def test_a_model_that_a_task_names_has_to_be_there():
    recipe = plain()
    recipe["steps"][4]["evaluate"]["suite"][1]["crossed"]["donor"] = "nobody"
    with pytest.raises(UsageError, match="nobody"):
        schema.arms(recipe, "entity-tracking", Registry())


def test_data_that_a_task_looks_for_a_circuit_on_have_to_be_there():
    recipe = plain()
    recipe["steps"][3]["evaluate"]["suite"][0]["circuit"] = {"on": "asked", "search": "nothing"}
    with pytest.raises(UsageError, match="nothing"):
        schema.arms(recipe, "entity-tracking", Registry())


def test_the_tiny_form_measures_what_is_claimed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    (found,) = turnsmith.run("entity-tracking", tiny=True, to=tmp_path / "run")
    tasks = [task for step in found["steps"] for task in step.get("tasks", ())]
    assert [task["task"] for task in tasks] == ["circuit", "carried", "circuit", "crossed"]
    figures = {(task["task"], row["name"]): row["after"] for task in tasks for row in task["metrics"]}
    # All heads at all positions, with embeddings and the rest alike, are the other model.
    assert figures["crossed", "accuracy with every"] == figures["crossed", "accuracy of the donor"]
    for statement in plain()["claim"]:
        assert (statement["task"], statement["quantity"]) in figures
