"""Trees that people grow: every state by hand, and crowds that go from the first message to the export."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnsmith.errors import DataError, UsageError
from turnsmith.serve.growing import (
    OVER,
    WAITING,
    Node,
    Ranking,
    Review,
    Rules,
    Task,
    Tree,
    advanced,
    chosen,
    consensus,
    halted,
    retried,
    started,
    tasks,
)

GOOD = tuple(Review(by, 1.0) for by in ("r1", "r2", "r3"))
POOR = tuple(Review(by, score) for by, score in (("r1", 1.0), ("r2", 0.5), ("r3", 0.2)))  # 1.7 / 3 = 0.57
SMALL = Rules(goal=4, depth=1)  # a question and three answers


def node(id, parent=None, reviews=GOOD, **more):
    """Ids of prompters begin with q. Somebody with the name of the message has written it."""
    role = "prompter" if id[0] == "q" else "assistant"
    return Node(id, parent, role, reviews, **{"author": f"by {id}", **more})


def grown(state="growing", **rankings):
    """A question with three answers, all accepted."""
    nodes = (node("q"), *(node(id, "q") for id in ("a1", "a2", "a3")))
    return Tree(state, nodes, {key: tuple(ones) for key, ones in rankings.items()})


def orders(*names):
    return [Ranking(f"p{number}", tuple(one.split())) for number, one in enumerate(names)]


# ----------------------------------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("reviews", "state"),
    [
        (GOOD[:2], "initial_prompt_review"),
        (GOOD, "growing"),
        (POOR, "aborted_low_grade"),
        (tuple(Review(by, 0.6) for by in "xyz"), "growing"),  # as good as it has to be
    ],
)
def test_a_first_message_is_reviewed_three_times(reviews, state):
    assert advanced(Tree("initial_prompt_review", (node("q", reviews=reviews),)), Rules()).state == state


def test_where_there_is_a_lottery_an_accepted_message_waits_until_it_is_drawn():
    rules = Rules(lottery=True)
    tree = advanced(Tree("initial_prompt_review", (node("q"),)), rules)
    assert tree.state == "prompt_lottery_waiting"
    assert advanced(tree, rules) is tree
    assert tasks(tree, rules, "somebody") == []
    assert started(tree, rules).state == "growing"


def test_a_tree_is_ranked_when_it_has_its_size_and_all_are_reviewed():
    tree = grown()
    assert advanced(tree, SMALL).state == "ranking"
    assert advanced(tree, Rules(goal=5)).state == "growing"
    more = replace(tree, nodes=(*tree.nodes, node("q2", "a1", GOOD[:2])))
    assert advanced(more, Rules(goal=4)).state == "growing"
    poor = replace(tree, nodes=(*tree.nodes[:3], node("a3", "q", POOR)))
    assert advanced(poor, SMALL).state == "growing"  # what was turned down does not count


def test_three_rankings_of_each_set_are_asked_for_and_then_scored():
    some = orders("a1 a2 a3", "a1 a2 a3")
    assert advanced(grown("ranking", q=some), SMALL).state == "ranking"
    done = advanced(grown("ranking", q=[*some, Ranking("p9", ("a2", "a1", "a3"))]), SMALL)
    assert done.state == "ready_for_export"
    assert [one.rank for one in done.nodes] == [None, 0, 1, 2]


def test_a_tree_without_a_set_to_rank_is_ready_at_once():
    nodes = (node("q"), node("a", "q"), node("q2", "a"))
    assert advanced(Tree("growing", nodes), Rules(goal=3)).state == "ready_for_export"


def test_answers_to_each_message_are_ranked_and_what_prompters_reply_only_where_it_is_asked_for():
    nodes = (*grown().nodes, node("q2", "a1"), node("q3", "a1"), node("b1", "q2"), node("b2", "q2"))
    tree = Tree(
        "ranking", nodes, {"q": tuple(orders(*["a1 a2 a3"] * 3)), "q2": tuple(orders(*["b1 b2"] * 3))}
    )
    assert advanced(tree, Rules(goal=8)).state == "ready_for_export"
    assert advanced(tree, Rules(goal=8, rank_prompters=True)).state == "ranking"


def test_the_ranks_are_those_of_ranked_pairs():
    """a3 over a1 2 to 1, a1 over a2 3 to 0, a3 over a2 2 to 1."""
    tree = grown("ready_for_scoring", q=orders("a3 a1 a2", "a1 a2 a3", "a3 a1 a2"))
    assert [one.rank for one in consensus(tree).nodes] == [None, 1, 2, 0]


def test_a_reply_that_was_deleted_meanwhile_or_that_nobody_ranked_has_no_rank():
    tree = grown("ready_for_scoring", q=[*orders("a1 a2", "a1 a2"), Ranking("p", (("a1", "a2"),))])
    nodes = (tree.nodes[0], replace(tree.nodes[1], deleted=True), *tree.nodes[2:])
    assert [one.rank for one in consensus(replace(tree, nodes=nodes)).nodes] == [None, None, 0, None]


@pytest.mark.parametrize("wrong", ["a1 a2 a1", "a1 q", "a1 a9"])
def test_a_ranking_of_something_else_fails_the_scoring_which_can_be_tried_again(wrong):
    tree = advanced(grown("ranking", q=orders("a1 a2 a3", wrong, "a1 a2 a3")), SMALL)
    assert tree.state == "scoring_failed"
    assert {one.rank for one in tree.nodes} == {None}
    assert retried(tree, SMALL).state == "scoring_failed"
    kept = {"q": (*tree.rankings["q"][:1], *tree.rankings["q"][2:])}
    again = retried(replace(tree, rankings=kept), SMALL)
    assert again.state == "ranking"  # one ranking is missing now
    with pytest.raises(UsageError, match="can be tried again, and this one is ranking"):
        retried(again, SMALL)


def test_consensus_changes_no_tree_that_is_not_ready_for_it():
    tree = grown("ranking", q=orders("a1 a2 a3"))
    assert consensus(tree) is tree


def test_a_tree_of_the_backlog_is_ranked_when_it_is_started_or_aborted_without_anything_to_rank():
    assert started(grown("backlog_ranking"), SMALL).state == "ranking"
    assert started(Tree("backlog_ranking", (node("q"), node("a", "q"))), SMALL).state == "aborted_low_grade"
    with pytest.raises(UsageError, match="only trees that wait can be started, and this one is growing"):
        started(grown(), SMALL)


def test_messages_of_a_model_need_no_review():
    nodes = tuple(
        node(id, parent, (), synthetic=True) for id, parent in (("q", None), ("a1", "q"), ("a2", "q"))
    )
    assert started(Tree("backlog_ranking", nodes), Rules()).state == "ranking"


@pytest.mark.parametrize("state", ["initial_prompt_review", "growing", "ranking", "ready_for_scoring"])
def test_a_tree_whose_first_message_was_deleted_is_halted(state):
    tree = grown(state)
    gone = replace(tree, nodes=(replace(tree.nodes[0], deleted=True), *tree.nodes[1:]))
    assert advanced(gone, Rules()).state == "halted_by_moderator"


@pytest.mark.parametrize("state", ["growing", "ranking", *WAITING])
def test_a_moderator_may_halt_a_tree_that_is_not_over(state):
    assert halted(grown(state)).state == "halted_by_moderator"


@pytest.mark.parametrize("state", OVER)
def test_a_tree_that_is_over_never_moves(state):
    tree = grown(state, q=orders(*["a1 a2 a3"] * 3))
    assert advanced(tree, SMALL) is tree
    assert tasks(tree, SMALL, "somebody") == []
    with pytest.raises(UsageError, match=f"this tree is {state}: it is over"):
        halted(tree)


# ------------------------------------------------------------------------------------------ tasks


def test_a_first_message_is_reviewed_by_others_each_once_until_there_are_three_reviews():
    tree = Tree("initial_prompt_review", (node("q", reviews=GOOD[:2]),))
    assert tasks(tree, Rules(), "by q") == []
    assert tasks(tree, Rules(), "r1") == []
    assert tasks(tree, Rules(), "r3") == [Task("review", "q")]
    assert tasks(Tree("initial_prompt_review", (node("q"),)), Rules(), "r4") == []


def test_only_accepted_messages_are_replied_to_and_those_under_review_count_as_replies():
    nodes = (node("q"), node("a1", "q"), node("a2", "q", ()), node("a3", "q", POOR))
    assert tasks(Tree("growing", nodes), Rules(), "x") == [
        Task("review", "a2"),
        Task("reply_as_assistant", "q", ("a1", "a2")),
        Task("reply_as_prompter", "a1"),
    ]


def test_a_message_has_three_answers_and_an_answer_one_reply():
    nodes = (*grown().nodes, node("q2", "a1", ()))
    assert [one.message for one in tasks(Tree("growing", nodes), Rules(), "r1")] == ["q2", "a2", "a3"]


def test_nobody_replies_twice_to_the_same_message_whatever_became_of_the_first_reply():
    for reply in (node("a1", "q"), node("a1", "q", POOR), node("a1", "q", deleted=True)):
        tree = Tree("growing", (node("q"), replace(reply, author="x")))
        assert Task("reply_as_assistant", "q", ("a1",)) not in tasks(tree, Rules(), "x")
        assert "q" not in [one.message for one in tasks(tree, Rules(), "x")]
        assert "q" in [one.message for one in tasks(tree, Rules(), "y")]


def test_no_path_gets_longer_than_three_replies():
    nodes = (node("q"), node("a1", "q"), node("q2", "a1"), node("a2", "q2"))
    assert [one.message for one in tasks(Tree("growing", nodes), Rules(), "x")] == ["q", "q2"]


def test_a_tree_that_has_its_size_asks_for_no_more_replies():
    nodes = (node("q"), node("a1", "q"), node("a2", "q", ()))
    assert tasks(Tree("growing", nodes), Rules(goal=3), "x") == [Task("review", "a2")]


def test_nothing_behind_a_deleted_message_is_asked_for():
    nodes = (node("q"), node("a1", "q", deleted=True), node("q2", "a1", ()), node("a2", "q"))
    assert [one.message for one in tasks(Tree("growing", nodes), Rules(), "x")] == ["q", "a2"]


def test_answers_are_ranked_by_others_each_once_until_there_are_three_rankings():
    tree = grown("ranking", q=orders("a1 a2 a3", "a1 a2 a3"))
    assert tasks(tree, SMALL, "by a2") == []  # one of them is theirs
    assert tasks(tree, SMALL, "p0") == []
    assert tasks(tree, SMALL, "by q") == [Task("rank", "q", ("a1", "a2", "a3"))]
    assert tasks(grown("ranking", q=orders(*["a1 a2 a3"] * 3)), SMALL, "by q") == []


# ----------------------------------------------------------------------------------------- chosen


def draws(ones, rules, count=4000):
    rng = Random(0)
    found = [chosen(ones, rules, rng) for _ in range(count)]
    return {one: found.count(one) / count for one in ones}


def test_a_message_with_one_answer_is_preferred_three_times_in_four():
    none, one, two = (Task("reply_as_assistant", f"q{n}", ("a",) * n) for n in range(3))
    reply = Task("reply_as_prompter", "a", ("q",))
    shares = draws([none, one, two, reply], Rules())
    assert shares[one] == pytest.approx(0.75 + 0.25 / 4, abs=0.03)  # four standard deviations
    assert shares[none] == pytest.approx(0.25 / 4, abs=0.02)
    assert draws([none, one], Rules(lonely=0))[one] == pytest.approx(0.5, abs=0.035)
    assert draws([none, one], Rules(lonely=1))[one] == 1


def test_what_is_to_be_done_is_drawn_before_where():
    """Rankings 10, reviews 5, replies 2, however many there are of each."""
    reviews = [Task("review", f"a{n}") for n in range(5)]
    shares = draws([*reviews, Task("rank", "q"), Task("reply_as_prompter", "a")], Rules())
    assert shares[Task("rank", "q")] == pytest.approx(10 / 17, abs=0.035)
    assert sum(shares[one] for one in reviews) == pytest.approx(5 / 17, abs=0.03)


def test_of_no_task_none_is_chosen():
    with pytest.raises(UsageError, match="there is no task to choose from"):
        chosen([], Rules(), Random(0))


# ---------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reviews": 0}, "reviews is 0, and has to be 1 or more"),
        ({"acceptance": 1.5}, "acceptance is 1.5, and has to be from 0 to 1"),
        ({"goal": 17}, "has room for 16 messages, and the goal is 17"),
    ],
)
def test_rules_that_no_tree_can_keep_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Rules(**options)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ((), "has a first message at least"),
        ((node("q"), node("a", "q"), node("a", "q")), "two messages of a tree have the id 'a'"),
        ((node("q"), node("a", "x")), "'a' replies to 'x', which is not before it"),
        ((node("q"), node("q2")), "'q2' replies to None, which is not before it"),
        ((node("a"),), "'a' is by the assistant, as is what it replies to"),
        ((node("q"), node("q2", "q")), "'q2' is by the prompter, as is what it replies to"),
    ],
)
def test_messages_that_are_no_tree_are_refused(nodes, said):
    with pytest.raises(DataError, match=said):
        Tree("growing", nodes)


# ---------------------------------------------------------------------------------------- a crowd


def put(tree, task, by, rng, number):
    """The tree after a person has done what was asked; one review in eight is a bad one."""
    if task.kind == "review":
        score = 0.0 if rng.random() < 1 / 8 else 1.0
        old = {one.id: one for one in tree.nodes}[task.message]
        assert by not in (old.author, *(one.by for one in old.reviews))
        new = replace(old, reviews=(*old.reviews, Review(by, score)))
        return replace(tree, nodes=tuple(new if one is old else one for one in tree.nodes))
    if task.kind == "rank":
        authors = {one.author for one in tree.nodes if one.id in task.replies}
        before = tree.rankings.get(task.message, ())
        assert by not in authors | {one.by for one in before}
        order = tuple(rng.sample(task.replies, len(task.replies)))
        return replace(tree, rankings={**tree.rankings, task.message: (*before, Ranking(by, order))})
    assert by not in [one.author for one in tree.nodes if one.parent == task.message]
    id = f"{'a' if task.kind == 'reply_as_assistant' else 'q'}{number}"
    return replace(tree, nodes=(*tree.nodes, node(id, task.message, (), author=by)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(4, 16))
def test_a_crowd_grows_every_tree_to_its_end(seed, goal):
    """Twelve people are asked at random until nobody can be asked anything: then the tree is over."""
    rng, rules = Random(seed), Rules(goal=goal)
    tree = Tree("initial_prompt_review", (node("q", reviews=(), author="p0"),))
    states = [tree.state]
    for number in range(2000):
        asked = [(by, ones) for by in (f"p{n}" for n in range(12)) if (ones := tasks(tree, rules, by))]
        if not asked:
            break
        by, ones = rng.choice(asked)
        tree = advanced(put(tree, chosen(ones, rules, rng), by, rng, number), rules)
        states.append(tree.state)
    passed = list(dict.fromkeys(states))
    if tree.state == "aborted_low_grade":
        assert passed == ["initial_prompt_review", "aborted_low_grade"]
        return
    on = [state for state in passed if state != "ranking"]  # passed by where no message has two answers
    assert on == ["initial_prompt_review", "growing", "ready_for_export"]
    kept = [one for one in tree.nodes if sum(review.score for review in one.reviews) >= 2]
    assert len(kept) == goal
    for parent in kept:
        answers = [one for one in kept if one.parent == parent.id]
        if parent.role == "prompter" and len(answers) > 1:
            assert "ranking" in passed
            assert sorted(one.rank for one in answers) == list(range(len(answers)))
        assert len(answers) <= (3 if parent.role == "prompter" else 1)
