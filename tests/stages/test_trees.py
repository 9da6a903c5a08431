"""Threads, ranked answers and prompts of message trees, by hand and on a hundred real ones."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from turnsmith.data.formats.oasst import oasst
from turnsmith.data.render import Renderer
from turnsmith.data.split import split
from turnsmith.errors import DataError, UsageError
from turnsmith.stages.trees import tree_prompts, tree_sets, tree_threads
from turnsmith.testing import stage, tokenizer
from turnsmith.types import Example


def node(id, *replies, **more):
    """Ids of prompters begin with q; the text is the id."""
    role = "prompter" if id[0] == "q" else "assistant"
    return {
        "message_id": id, "text": id, "role": role, "lang": "en", "review_result": True, **more,
        "replies": list(replies),
    }  # fmt: skip


def tree(top, id="t", **more):
    found = oasst({"message_tree_id": id, "prompt": top})
    meta = {"id": id, "message_tree_id": id, "tree_state": "ready_for_export", **found.meta, **more}
    return Example(found.parts, {}, meta)


WHOLE = tree(
    node(
        "q",
        node(
            "a1",
            node("q2", node("b1", rank=1), node("b2", rank=0), node("b3")),
            node("q3"),
            rank=0,
        ),
        node("a2", node("q4"), node("q5", node("c1")), rank=1),
    )
)


def said(made, part="text"):
    return [" ".join(m.content for m in one.messages) for e in made for one in several(e.parts[part])]


def several(part):
    return part if isinstance(part, tuple) else (part,)


def run(function, *data, **options):
    counts = Counter()
    return list(function(data, counts=counts, **options)), counts


# ---------------------------------------------------------------------------------------- threads


def test_threads_end_with_an_answer_and_of_prompters_with_the_last_word_only_the_first_counts():
    """q3 is the second reply to a1, so the way to it is none; q4 is the first one to a2, and is cut."""
    made, counts = run(tree_threads, WHOLE)
    assert said(made) == ["q a1 q2 b1", "q a1 q2 b2", "q a1 q2 b3", "q a2", "q a2 q5 c1"]
    assert [one.id for one in made] == [f"t/{number}" for number in range(5)]
    assert {one.meta["message_tree_id"] for one in made} == {"t"}
    assert not counts


def test_all_answers_of_a_thread_learn_also_those_that_others_have():
    made, _ = run(tree_threads, WHOLE)
    assert {message.weight for one in made for message in one.parts["text"].messages} == {None}


def test_top_1_keeps_the_best_answer_of_each_set_and_those_without_siblings():
    made, counts = run(tree_threads, WHOLE, top_k=1)
    assert said(made) == ["q a1 q2 b2"]
    assert counts == {"threads with an answer beyond the best 1": 4}
    alone, _ = run(tree_threads, tree(node("q", node("a"))), top_k=1)
    assert said(alone) == ["q a"]
    two, counts = run(tree_threads, WHOLE, top_k=2)
    assert said(two) == ["q a1 q2 b1", "q a1 q2 b2", "q a2", "q a2 q5 c1"]  # b3 has siblings and no rank


def test_so_many_threads_of_a_tree_are_kept_and_the_others_counted():
    made, counts = run(tree_threads, WHOLE, most=2)
    assert said(made) == ["q a1 q2 b1", "q a1 q2 b2"]
    assert counts == {"threads of a tree beyond 2": 3}


@pytest.mark.parametrize("flag", ["deleted", "synthetic"])
def test_threads_with_a_message_that_was_deleted_or_that_a_model_wrote_are_counted_out(flag):
    given = tree(node("q", node("a1", node("q2", node("b1"))), node("a2", **{flag: True}), node("a3")))
    made, counts = run(tree_threads, given)
    assert said(made) == ["q a1 q2 b1", "q a3"]
    assert counts == {"threads with a deleted message, or one that a model wrote": 1}


def test_a_first_message_without_a_reply_has_no_thread():
    """Check of card 75."""
    assert run(tree_threads, tree(node("q"))) == ([], Counter())


def test_a_thread_in_which_one_side_speaks_twice_is_counted_out():
    made, counts = run(tree_threads, tree(node("q", node("a1", node("a2")), node("a3"))))
    assert said(made) == ["q a3"]
    assert counts == {"threads in which one side speaks twice": 1}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (tree(node("q", node("a")), tree_state="growing"), "that are not ready for export"),
        (tree(node("q", node("a"), review_result=False)), "whose first message was not accepted"),
        (tree(node("q", node("a"), lang="de")), "in other languages"),
    ],
)
@pytest.mark.parametrize("function", [tree_threads, tree_sets, tree_prompts])
def test_trees_that_are_not_ready_not_accepted_or_in_other_languages_are_counted_out(function, given, reason):
    made, counts = run(function, given, languages=("en", "fr"))
    assert made == []
    assert counts == {f"trees {reason}": 1}


# ------------------------------------------------------------------------------------------- sets


def test_a_set_is_every_ranked_answer_to_a_prompt_the_best_first():
    made, counts = run(tree_sets, WHOLE)
    assert said(made, "replies") == ["q a1", "q a2", "q a1 q2 b2", "q a1 q2 b1"]
    assert [one.values for one in made] == [{"rank": (0.0, 1.0), "reward": (0.0, -1.0)}] * 2
    assert [one.id for one in made] == ["t/0", "t/1"]
    assert counts == {"prompts without two answers of different rank": 3}  # q3, q4 and q5


def test_of_more_answers_the_best_five_are_kept_and_those_of_a_model_never():
    answers = [node(f"a{rank}", rank=rank) for rank in (3, 0, 6, 2, 5, 4)]
    given = tree(node("q", *answers, node("a1", rank=1, synthetic=True)))
    made, counts = run(tree_sets, given)
    assert said(made, "replies") == ["q a0", "q a2", "q a3", "q a4", "q a5"]
    assert counts == {"answers beyond 5": 1, "answers that were deleted, or that a model wrote": 1}
    assert said(run(tree_sets, given, most=2)[0], "replies") == ["q a0", "q a2"]


def test_answers_of_one_rank_are_no_set():
    made, counts = run(tree_sets, tree(node("q", node("a1", rank=0), node("a2", rank=0))))
    assert made == []
    assert counts == {"prompts without two answers of different rank": 1}


def test_top_1_counts_for_what_stands_before_a_prompt():
    made, _ = run(tree_sets, tree(node("q", node("a1", rank=0), node("a2", node("q2", node("b1", rank=0), node("b2", rank=1)), rank=1))), top_k=1)  # fmt: skip # noqa: E501
    assert said(made, "replies") == ["q a1", "q a2"]


@pytest.mark.parametrize("rank", ["0", True])
def test_a_rank_that_is_no_number_is_refused(rank):
    given = tree(node("q", node("a1", rank=rank), node("a2", rank=1)))
    with pytest.raises(DataError, match="message 'a1' has the rank"):
        run(tree_sets, given)


# ---------------------------------------------------------------------------------------- prompts


def test_every_way_to_something_that_a_prompter_says_is_a_prompt():
    made, _ = run(tree_prompts, WHOLE)
    assert said(made) == ["q", "q a1 q2", "q a1 q3", "q a2 q4", "q a2 q5"]
    made, counts = run(tree_prompts, tree(node("q", node("a1", node("q2"), deleted=True))))
    assert said(made) == ["q"]
    assert counts == {"prompts with a deleted message, or one that a model wrote": 1}


# ------------------------------------------------------------------------------------- the others


def test_numbers_below_one_are_refused():
    with pytest.raises(UsageError, match="top_k is 0, and has to be 1 or more"):
        run(tree_threads, WHOLE, top_k=0)
    with pytest.raises(UsageError, match="most is 0, and has to be 1 or more"):
        run(tree_sets, WHOLE, most=0)
    with pytest.raises(UsageError, match="count is -1"):
        list(stage("sum_trees", {"count": -1})([]))


def test_what_is_no_tree_is_refused():
    row = next(iter(run(tree_threads, WHOLE)[0]))
    plain = row.parts["text"].messages
    bare = Example({"text": replace(row.parts["text"], messages=tuple(replace(m, fields={}) for m in plain))})
    with pytest.raises(DataError, match="it takes messages of a tree, each with a message_id"):
        run(tree_threads, bare)


def test_made_trees_rank_a_right_sentence_above_a_number_above_a_wrong_one():
    for one in run(tree_sets, *stage("sum_trees", {"count": 5})([]))[0]:
        asked, *answers = (text.rsplit("?", 1) for text in said([one], "replies"))
        first, word, second = asked[0].rsplit("?", 1)[-1].split()[-3:]
        right = int(first) + int(second) if word == "plus" else int(first) - int(second)
        assert f"is {right}." in asked[1]
        assert str(right) not in answers[-1][1]


# -------------------------------------------------------------------- the mask, and a split by tree


def test_what_learns_of_a_thread_is_each_answer_and_the_token_that_ends_it():
    """Of one pair as many tokens as the answer has, and one more, as in OpenAssistant's mask. That one has
    the mark of the next speaker learnt behind each further answer too; here it is not."""
    words = tokenizer()
    for thread, answers in (("q a", 1), ("q a q2 b", 2)):
        ids = thread.split()
        top = None
        for id in reversed(ids):
            top = node(id, *([top] if top else []), role="prompter" if id[0] == "q" else "assistant")
        (made,), _ = run(tree_threads, tree(top))
        (tokens,) = Renderer(words).render(made.parts["text"])
        learnt = tokens.targets[tokens.weights > 0]
        spoken = sum(len(words.encode(id, add_special_tokens=False)) for id in ids[1::2])
        assert len(learnt) == spoken + answers
        first = int((tokens.weights > 0).argmax())
        assert words.decode(tokens.inputs[:first]).endswith("assistant\n")  # nothing before the first answer


def test_a_split_by_tree_leaves_no_message_on_both_sides():
    trees = list(stage("sum_trees", {"count": 20})([]))
    made, _ = run(tree_threads, *trees)
    sides, _ = split(made, {"train": 0.7, "held": 0.3}, by="message_tree_id")
    ids = [
        {m.fields["message_id"] for e in side for m in e.parts["text"].messages} for side in sides.values()
    ]
    assert ids[0]
    assert ids[1]
    assert not ids[0] & ids[1]


# ---------------------------------------------------------------------------------- real trees


@pytest.fixture(scope="module")
def real(shared):
    lines = (shared / "data" / "chat" / "en_100_tree.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [tree(row["prompt"], row["message_tree_id"], tree_state=row["tree_state"]) for row in rows]


@pytest.mark.shared
def test_a_hundred_real_trees_have_538_threads_207_sets_and_475_prompts(real):
    """Of the 609 ways to an end 383 end with an answer, and 155 with the first of some prompters; 5 trees are
    by a model."""
    made, counts = run(tree_threads, *real)
    assert (len(made), len({one.meta["message_tree_id"] for one in made})) == (383 + 155, 95)
    assert counts == {"threads with a deleted message, or one that a model wrote": 17}
    for one in made:
        roles = [message.role for message in one.parts["text"].messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
    assert len({said([one])[0] for one in made}) == len(made)
    sets, _ = run(tree_sets, *real)
    assert len(sets) == 207
    assert len(run(tree_prompts, *real)[0]) == 475


@pytest.mark.shared
def test_top_1_leaves_one_answer_to_each_prompt_of_the_real_trees(real):
    best, _ = run(tree_threads, *real, top_k=1)
    answers = {}
    for one in best:
        messages = one.parts["text"].messages
        for asked, answer in zip(messages[::2], messages[1::2], strict=True):
            answers.setdefault(asked.fields["message_id"], set()).add(answer.fields["message_id"])
    assert len(best) == 98
    assert {len(ones) for ones in answers.values()} == {1}
