"""Message trees in a recipe: ranked answers make a judge, and held-out trees tell how good it is."""

import turnsmith
from turnsmith.testing import directory


def test_a_judge_of_made_trees_orders_the_answers_of_held_out_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    base = str(directory(tmp_path / "base"))
    split = {"name": {"trees": 0.7, "others": 0.3}, "stages": [{"sum_trees": {"count": 12}}]}
    steps = [
        {"data": split},
        {"data": {"name": "sets", "from": "trees", "stages": ["tree_sets"]}},
        {"data": {"name": "held", "from": "others", "stages": ["tree_sets"]}},
        {
            "train": {
                "name": "judge",
                "data": "sets",
                "objective": "ranking",
                "trainable": "full",
                "train_on": "last",
                "fit": {
                    "steps": 12,
                    "batch": 8,
                    "length": 128,
                    "over": "longest",
                    "lr": 3e-3,
                    "dtype": "float32",
                },
            }
        },
        {
            "evaluate": {
                "model": "judge",
                "against": None,
                "suite": [{"ranked": {"on": "held", "baseline": "words"}}],
            }
        },
    ]
    recipe = {"title": "trees", "base": base, "forgetting": False, "steps": steps}
    (found,) = turnsmith.run(recipe, name="trees")
    (task,) = found["steps"][-1]["tasks"]
    rows = {row["name"]: row["after"] for row in task["metrics"]}
    assert task["metrics"][0]["n"] == 2 * 4  # two sets of each held-out tree
    assert rows["best above worst"] >= 0.9
    assert rows["Kendall"] > 0.5
    assert rows["the baseline's best above worst"] == 1.0  # the best is a sentence, the worst a word or three
