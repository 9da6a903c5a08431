"""Work spread over processes."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes.spread import spread


def doubled(plan, say):
    say(f"doubling {plan}")
    return {"twice": 2 * plan}


def test_one_after_the_other_says_what_it_does():
    said = []
    assert spread(doubled, [1, 2], jobs=1, ray=False, say=said.append) == [{"twice": 2}, {"twice": 4}]
    assert said == ["doubling 1", "doubling 2"]


def test_processes_give_the_same_in_the_same_order():
    assert spread(doubled, [3, 1, 2], jobs=2, ray=False, say=print) == [
        {"twice": 6},
        {"twice": 2},
        {"twice": 4},
    ]


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'turnsmith\[ray\]'"):
        spread(doubled, [1], jobs=1, ray=True, say=print)


def test_no_jobs_are_no_work():
    with pytest.raises(UsageError, match="1 at least, not 0"):
        spread(doubled, [1], jobs=0, ray=False, say=print)
