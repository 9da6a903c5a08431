"""Tree search, by hand."""

from math import log, sqrt

import pytest

from turnsmith.rollout.search import Node, ahead, credit, ends, nodes, selected


def tree():
    """A root with the children a and b, and c under a."""
    root = Node()
    a = root.child(Node((1,), "a", "a", prior=0.5, worth=0.2))
    b = root.child(Node((2,), "b", "b", prior=0.25, worth=0.1))
    c = a.child(Node((1, 3), "ac", "c", prior=0.5, worth=-0.4))
    return root, a, b, c


def test_a_reward_goes_to_every_ancestor_once():
    root, a, b, c = tree()
    credit(c, 1.0)
    credit(a, 0.5)
    assert (root.worth, root.visits) == (1.5, 2)
    assert (a.worth, a.visits) == (pytest.approx(0.2 + 1.5), 2)
    assert (b.worth, b.visits) == (0.1, 0)
    assert (c.worth, c.visits) == (pytest.approx(0.6), 1)
    for node in nodes(root):
        assert sum(one.visits for one in node.children) <= node.visits


def test_a_value_is_the_mean_of_the_first_sight_and_the_rewards():
    _, a, _, c = tree()
    credit(c, 1.0)
    assert a.value == pytest.approx((0.2 + 1.0) / 2)


def test_a_child_with_the_same_tokens_is_the_same_child():
    root, a, _, _ = tree()
    assert root.child(Node((1,), "a", "a")) is a
    assert len(root.children) == 2


def test_one_goes_to_the_greatest_value_and_prior_and_ever_more_to_what_was_seldom_seen():
    root, a, b, c = tree()
    assert selected(root, 1.0) is c  # nothing was visited: log 1 is 0, and 0.2 is above 0.1
    for _ in range(3):
        credit(a, -0.1)
    # a: (0.2 - 0.3) / 4 + 0.5 sqrt(log 3 / 4) = 0.237; b: 0.1 + 0.25 sqrt(log 3 / 1) = 0.362
    assert a.value + 0.5 * sqrt(log(3) / 4) < b.value + 0.25 * sqrt(log(3))
    assert selected(root, 1.0) is b
    assert selected(root, 0.0) is b  # by value alone: -0.025 and 0.1


def test_what_lies_ahead_is_reached_by_values_as_far_as_it_goes():
    root, a, _, c = tree()
    assert ahead(root, 0) is root
    assert ahead(root, 1) is a
    assert ahead(root, 5) is c


def test_a_fork_needs_two_ways():
    root, a, b, _ = tree()
    assert ends(root) == (a, b)
    assert ends(a) is None
    b.worth = a.worth
    assert ends(root) is None
