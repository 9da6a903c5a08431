"""A guard in a recipe: taught, measured beside a baseline, and asked by a stage."""

import pytest

import turnsmith
from turnsmith.testing import directory

POLICY = {"Weapons": "Guns.", "Medicine": "", "Politics": "", "Insults": "", "Gambling": ""}
FIT = {"steps": 2, "batch": 2, "length": 1024, "dtype": "float32", "lr": 1e-2}
WORDS = {"rules": {"good": 0.0, "bad": ["rifle", "fever", "poker"], "worst": 1.0}}  # 1 where one is there
MEASURED = {"moderated": {"on": "test", "policy": POLICY, "baseline": WORDS}}
RECIPE = {
    "title": "A guard, small",
    "base": "./base",
    "forgetting": False,
    "steps": [
        {
            "data": {
                "name": {"pool": 0.5, "test": 0.5},
                "stages": [{"requests": {"count": 40, "replies": 0.3}}],
            }
        },
        {"data": {"name": "known", "from": "pool", "stages": [{"guard_prompts": {"policy": POLICY}}]}},
        {"train": {"name": "guard", "data": "known", "trainable": "full", "fit": FIT}},
        {"evaluate": {"model": "guard", "suite": [MEASURED]}},
        {
            "data": {
                "name": "judged",
                "from": "test",
                "stages": [{"scored": {"by": {"guard": {"by": "guard", "policy": POLICY}}, "to": "share"}}],
            }
        },
    ],
    "claim": [
        {
            "task": "moderated",
            "quantity": "AUPRC above the baseline's",
            "of": "guard",
            "against": None,
            "direction": "higher",
        }
    ],
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    place = tmp_path_factory.mktemp("guard")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("TURNSMITH_HOME", str(place / "home"))
        directory(place / "base")
        (made,) = turnsmith.run(RECIPE, name="guard", to=place / "run")
        yield made


def test_a_claim_against_0_is_judged_by_the_figure_itself(found):
    (task,) = found["steps"][3]["tasks"]
    figures = {row["name"]: row["after"] for row in task["metrics"]}
    (claim,) = found["claim"]
    assert claim["difference"] == pytest.approx(figures["AUPRC above the baseline's"])
    assert claim["low"] < claim["difference"] < claim["high"]
    assert claim["text"] == "moderated: AUPRC above the baseline's of guard against 0 is higher"
    assert claim["verdict"] in ("holds", "undecided", "fails")
    assert 0 < figures["AUPRC"] < 1
